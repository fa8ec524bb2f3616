# Mixed-Policy Distillation, stage by stage. Settings are in config.yaml.
#
#     snakemake --cores 2              all of it
#     snakemake --cores 2 --dry-run    what would be visited

from snakemake.utils import min_version

min_version("9.27")


# Beside this file, also where the results are elsewhere (--directory).
configfile: f"{workflow.basedir}/config.yaml"


report: "docs/workflow.rst"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/problems.smk"
include: "rules/sample.smk"
include: "rules/compress.smk"
include: "rules/filter.smk"
include: "rules/logits.smk"
include: "rules/distill.smk"
include: "rules/answers.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


# Where there is nothing to do, this is all that Snakemake says of the results.
if workflow.is_main_process:
    log_report("report of the last run")


rule all:
    default_target: True
    input:
        f"results/{CONFIG.experiment}/report.html",
        f"results/{CONFIG.experiment}/summary.parquet",
        f"results/{CONFIG.experiment}/comparison.parquet",
        f"results/{CONFIG.experiment}/budgets.parquet",
        f"results/{CONFIG.experiment}/difficulty.parquet",
        f"results/{CONFIG.experiment}/costs.parquet",
    localrule: True
    message:
        "all"


onsuccess:
    log_report("report")
