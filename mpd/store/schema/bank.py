"""The bank of reasoning paths, and the routes of problems along it."""

from mpd.store.schema.column import PROBLEM_ID, Artifact, Column

BANK = Artifact(
    "bank",
    1,
    "reasoning paths of right structural rationales of earlier rounds, from round 2 on, where "
    "`compress.bank` is set",
    ("category", "intent", "path"),
    (
        Column("category", "string", "", "category as the first rationale spells it"),
        Column(
            "intent", "string", "", "canonical intent: the shortest of a cluster, cut to 4 words"
        ),
        Column("path", "string", "", "names of the steps, with blanks between them"),
        Column("round", "int32", "", "round whose rationale brought the path"),
    ),
)

ROUTES = Artifact(
    "routes",
    1,
    "the route of each training problem along the bank, which its rewriting prompt shows; no rows "
    "where the bank is empty",
    ("problem_id",),
    (
        PROBLEM_ID,
        Column("route", "string", "", "category, intent, difficulty, budget and path, as JSON"),
    ),
)
