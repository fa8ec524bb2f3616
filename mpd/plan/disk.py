"""What results take on a disk: bytes of the cache and of students, and the number of files."""

from mpd.config.logits import Logits
from mpd.plan.shapes import Model

# Entries of a position with a union support trimmed at min_contribution, near student: 6.3 at .003,
# 11.5 at .001, 23 at .0003; bytes of a token of the file are 18, 2.2 for each entry and .6 for each
# tail bucket (docs/cache.md, "Fidelity for bytes"). A student far from its teacher has three times
# as many entries.
ENTRIES, ENTRIES_LIMIT, ENTRIES_POWER = 11.5, 0.001, 0.58
BYTES_OF_REALISED = 16.0  # of a token where the cache has no support: four numbers, not compressed
BYTES_OF_TOKEN, BYTES_OF_ENTRY, BYTES_OF_TAIL, HIDDEN_SHARE = 18.0, 2.2, 0.6, 0.86
SMALL_VOCABULARY, SMALL_BYTES = 1000, 17.5  # the embedded world's cache, as measured
FILES_OF_TABLE, FILES_OF_FOLDER, FILES_OF_JOB = 5, 13, 2
BYTES_OF_FILE = 800.0  # notes, receipts, logs


def entries_of(settings: Logits) -> float:
    """The entries that the cache has of a position, on the average."""
    most = 1.2 * settings.top_k if settings.support == "union" else float(settings.top_k)
    if settings.min_contribution == 0:
        return most
    trimmed = ENTRIES * (ENTRIES_LIMIT / settings.min_contribution) ** ENTRIES_POWER
    return min(trimmed if settings.support == "union" else 0.6 * trimmed, most)


def cache_bytes(settings: Logits, scorer: Model, weight_bytes: int) -> float:
    """Bytes of the cache for each completion token."""
    if settings.cache == "hidden":
        return BYTES_OF_TOKEN + HIDDEN_SHARE * scorer.shape.hidden_size * weight_bytes
    if settings.cache == "realised":
        return BYTES_OF_REALISED
    if scorer.shape.vocab_size < SMALL_VOCABULARY:
        return SMALL_BYTES
    tails = BYTES_OF_TAIL * settings.tail_buckets
    return BYTES_OF_TOKEN + BYTES_OF_ENTRY * entries_of(settings) + tails


def student_bytes(student: Model) -> float:
    """Bytes of a trained student, whose weights are float32."""
    return 4.0 * student.parameters + 3e4


def num_files(jobs: int, tables: int, folders: int) -> int:
    """Files that stay: of a table itself, its note, receipt, lock and sign; log and times of a job.

    A link to a stored file is not counted: it takes no room.
    """
    return FILES_OF_TABLE * tables + FILES_OF_FOLDER * folders + FILES_OF_JOB * jobs
