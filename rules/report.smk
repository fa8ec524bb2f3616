# Requires: the evaluations of every student, and every file of the rounds that trained it.
# Gives: tables of the students, of their differences and of their costs, and the page to read.
# The stage is told the folders of the rounds: all the files would not fit on a command line.


rule report:
    input:
        evaluations=evaluations,
        problems="results/{experiment}/problems/train/shard_0.parquet",
        sample=all_shards("sample"),
        compress=all_shards("compress"),
        filter=all_shards("filter"),
        logits=all_shards("logits"),
        metrics=all_metrics,
    output:
        report="results/{experiment}/report.html",
        summary="results/{experiment}/summary.parquet",
        comparison="results/{experiment}/comparison.parquet",
        costs="results/{experiment}/costs.parquet",
    log:
        "results/{experiment}/logs/report.log",
    benchmark:
        "results/{experiment}/benchmarks/report.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: RESOURCES.report.threads
    resources:
        mem_mb=RESOURCES.report.memory_mb,
        store=CONFIG.store,
    params:
        version=[
            *(schema.SUMMARY.version, schema.COMPARISON.version),
            *(schema.COSTS.version, schema.REPORT_VERSION),
        ],
        settings=settings_of("report"),
        rounds=all_rounds,
        benchmarks=EVALUATED,
        num_shards=CONFIG.problems.num_shards,
    message:
        "report"
    shell:
        "python -m mpd.report --settings {params.settings:q} --rounds {params.rounds:q}"
        " --benchmarks {params.benchmarks:q} --num-shards {params.num_shards}"
        " --problems {input.problems:q} --output {output.report:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee {log:q}"
