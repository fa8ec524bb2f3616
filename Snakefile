# Mixed-Policy Distillation, stage by stage. Settings are in config.yaml.
#
#     snakemake --cores 2              run everything
#     snakemake --cores 2 --dry-run    list the jobs that would be visited

from snakemake.utils import min_version

min_version("9.27")


# It is beside this file, even if the results are elsewhere (--directory).
configfile: f"{workflow.basedir}/config.yaml"


report: "docs/workflow.rst"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/problems.smk"
include: "rules/sample.smk"
include: "rules/bank.smk"
include: "rules/compress.smk"
include: "rules/filter.smk"
include: "rules/logits.smk"
include: "rules/distill.smk"
include: "rules/answers.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


# On a cluster these run where Snakemake runs: few jobs and short ones, and a hub may be out of reach of
# its nodes.
localrules:
    benchmark_problems,
    problems,
    report,


# If there is nothing to do, Snakemake itself does not mention the results.
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
        f"results/{CONFIG.experiment}/speed.parquet",
    localrule: True
    message:
        "all"


onstart:
    begin_run()


onsuccess:
    log_report("report")
