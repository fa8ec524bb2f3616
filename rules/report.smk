# Requires: the answers of every student and their grades, every file of the rounds that trained it,
# the problems and a tokenizer: all models of an experiment have one.
# Gives: tables of the students, of their differences, of accuracy under a budget and by difficulty,
# and of costs, and the page to read.
# The stage is told the folders of the rounds: all the files would not fit on a command line.


rule report:
    input:
        evaluations=all_benchmarks("evaluate"),
        answers=all_benchmarks("answers"),
        problems=expand(
            "results/{{experiment}}/problems/train/shard_{shard}.parquet",
            shard=range(CONFIG.problems.num_shards),
        ),
        student=f"results/{{experiment}}/models/student_seed_{CONFIG.seeds[0]}/manifest.json",
        sample=all_shards("sample"),
        compress=all_shards("compress"),
        filter=all_shards("filter"),
        logits=all_shards("logits"),
        metrics=all_metrics,
    output:
        report=report(
            "results/{experiment}/report.html",
            caption="../docs/report.rst",
            category="MPD",
        ),
        summary="results/{experiment}/summary.parquet",
        comparison="results/{experiment}/comparison.parquet",
        budgets="results/{experiment}/budgets.parquet",
        difficulty="results/{experiment}/difficulty.parquet",
        costs="results/{experiment}/costs.parquet",
    log:
        "results/{experiment}/logs/report.log",
    benchmark:
        "results/{experiment}/benchmarks/report.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: 1
    resources:
        mem_mb=RESOURCES.report.memory_mb,
        store=CONFIG.store,
    params:
        version=[
            *(schema.SUMMARY.version, schema.COMPARISON.version),
            *(schema.BUDGETS.version, schema.DIFFICULTY.version),
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
        " --problems {input.problems:q} --student {input.student:q} --output {output.report:q}"
        " --mode {resources.store} 2>&1 | tee {log:q}"
