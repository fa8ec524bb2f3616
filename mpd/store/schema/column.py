"""What a column and an artifact are, and the columns that several artifacts have."""

from dataclasses import dataclass

Version = int | list[int]  # several for a folder that has several tables


@dataclass(frozen=True)
class Column:
    """One column. `dtype` is spelled as Arrow prints it; `unit` is empty where there is none."""

    name: str
    dtype: str
    unit: str
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Artifact:
    """One kind of file. `key` names the columns that identify a row."""

    name: str
    version: int
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    extensions: tuple["Artifact", ...] = ()  # with more columns, which readers take as well

    @property
    def names(self) -> list[str]:
        """The names of all columns, in order."""
        return [column.name for column in self.columns]


PROBLEM_ID = Column("problem_id", "string", "", "digest of the normalised question")
SAMPLE_INDEX = Column("sample_index", "int32", "", "index of the sample among those of its problem")
SAMPLE_ID = Column("sample_id", "string", "", "problem_id, a dash, the sample's index")
CANDIDATE = Column("candidate", "int32", "", "index of the rewrite among those of its sample")
GOLD = Column("gold", "string", "", "gold answer")
PROMPT_IDS = Column("prompt_ids", "list<int32>", "token id", "rendered prompt of the student")
SAMPLED_IDS = Column("completion_ids", "list<int32>", "token id", "sampled ids, stop id included")
TEXT = Column("text", "string", "", "completion without the stop token, control tokens shown")
FINISH_REASON = Column(
    "finish_reason",
    "string",
    "",
    "stop, length (cut by the token limit), too_long (the prompt does not fit), "
    "lossy (a given text, letters of which the tokenizer changes)",
)
NUM_TOKENS = Column("num_tokens", "int32", "token", "length of completion_ids")
VERDICTS = (
    "correct, wrong, none (no answer), unparsed (equality cannot be decided) or timeout (of the "
    "answer checker)"
)
METHOD = Column("method", "string", "", "method of the grid")
METHOD_OR_BASE = Column("method", "string", "", "method of the grid, or base")
ROUND = Column("round", "int32", "", "training rounds behind this student")
BENCHMARK = Column("benchmark", "string", "", "name of the benchmark; dev is the development split")
