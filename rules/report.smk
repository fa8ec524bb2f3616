# Requires: the evaluations of every student, and a shard of the first round for examples.
# Gives: the summary table and the page to read.


rule report:
    input:
        evaluations=evaluations,
        problems="results/{experiment}/problems/train/shard_0.parquet",
        sample=first_shard("sample"),
        compress=first_shard("compress"),
        filter=first_shard("filter"),
    output:
        report="results/{experiment}/report.html",
        summary="results/{experiment}/summary.parquet",
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
        version=[schema.SUMMARY.version, schema.REPORT_VERSION],
        settings=settings_of("report"),
    shell:
        "python -m mpd.report --settings {params.settings:q} --evaluations {input.evaluations:q}"
        " --problems {input.problems:q} --sample {input.sample:q} --compress {input.compress:q}"
        " --filter {input.filter:q} --output {output.report:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee {log:q}"
