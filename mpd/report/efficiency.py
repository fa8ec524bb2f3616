"""The accuracy-efficiency score of a student against the base student. No I/O.

Source: O1-Pruner, arXiv 2501.12570, with its weights.
"""

import numpy as np

# What tokens saved, accuracy gained and accuracy lost are worth.
ALPHA, BETA, GAMMA = 1.0, 3.0, 5.0
FORMULA = (
    f"AES = {ALPHA:g}·ΔL + {BETA:g}·|ΔA| where the accuracy A is at least the base student's A0, "
    f"else {ALPHA:g}·ΔL − {GAMMA:g}·|ΔA|; ΔL = (L0 − L) / L0 is the share of the tokens L that is "
    "saved, ΔA = (A − A0) / A0"
)


def aes(
    accuracy: np.ndarray, tokens: np.ndarray, base_accuracy: np.ndarray, base_tokens: np.ndarray
) -> np.ndarray:
    """AES, element by element; NaN where it is undefined, as where the base student solves nothing.

    Tokens are means per answer. The score rewards a student that trades accuracy for tokens
    wherever ΔL outweighs γ · |ΔA|, so that it is shown beside both and never alone.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        saved = (base_tokens - tokens) / base_tokens
        gained = (accuracy - base_accuracy) / base_accuracy
        score = ALPHA * saved + np.where(gained >= 0, BETA, GAMMA) * gained  # −γ · |ΔA| is γ · ΔA
    return np.where(np.isfinite(score), score, np.nan)
