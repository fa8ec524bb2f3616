"""The section compress.bank, and the settings of its stage."""

from typing import ClassVar

from pydantic import Field

from mpd.config.base import Count, Share, StageSettings, StrictModel


class Bank(StrictModel):
    """How a bank of paths is made of right rationales; defaults are those of arXiv 2605.07139."""

    eps: float = Field(
        0.25,
        gt=0,
        description="intents of a category whose embeddings are no further apart are one (DBSCAN)",
    )
    dimensions: Count = Field(
        5, description="principal components of the embeddings that distances are taken of, at most"
    )
    near_duplicate: Share = Field(
        0.9, description="paths of a cell whose words overlap this much (Jaccard) count as one"
    )
    flush: Count = Field(100, description="number of pending new paths at which they join the bank")


class BankSettings(Bank, StageSettings):
    """Settings of the bank of paths."""

    section: ClassVar[str] = "compress.bank"
