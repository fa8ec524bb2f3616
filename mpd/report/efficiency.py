"""The accuracy-efficiency score of a student against the base student. No I/O."""

import numpy as np

# The weights of AES: what tokens saved, accuracy gained and accuracy lost are worth.
A, B, G = 1.0, 3.0, 5.0
FORMULA = (
    f"AES = {A:g}·ΔL + {B:g}·|ΔA| where the accuracy A is no lower than the base student's A0, "
    f"else {A:g}·ΔL − {G:g}·|ΔA|; ΔL = (L0 − L) / L0 is the share of the tokens L that is saved, "
    "ΔA = (A − A0) / A0"
)


def aes(
    accuracy: np.ndarray, tokens: np.ndarray, base_accuracy: np.ndarray, base_tokens: np.ndarray
) -> np.ndarray:
    """AES, element by element; NaN where it is undefined, as where the base student solves nothing.

    Tokens are means per answer. The score rewards a student that trades accuracy for tokens
    wherever ΔL outweighs G · |ΔA|: it stands beside both, never alone.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        saved = (base_tokens - tokens) / base_tokens
        gained = (accuracy - base_accuracy) / base_accuracy
        score = A * saved + np.where(gained >= 0, B, G) * gained  # −G · |ΔA| is G · ΔA
    return np.where(np.isfinite(score), score, np.nan)
