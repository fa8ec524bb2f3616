# Requires: the answers of every student with their grades, every file of the rounds that trained
# it, the training problems, and the base student for its tokenizer, which all models share.
# Gives: the report, and tables: students, differences between them, accuracy under a token budget,
# accuracy by difficulty, costs, and speed by stage.
# The stage gets the folders of the rounds, since a command line has no room for all of their files.


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
        speed="results/{experiment}/speed.parquet",
    log:
        "results/{experiment}/logs/report.log",
    benchmark:
        "results/{experiment}/benchmarks/report.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: 1
    resources:
        mem_mb=memory_of("report"),
        runtime=runtime_of("report"),
        store=CONFIG.store,
    params:
        version=[
            *(schema.SUMMARY.version, schema.COMPARISON.version),
            *(schema.BUDGETS.version, schema.DIFFICULTY.version),
            *(schema.COSTS.version, schema.SPEED.version, schema.REPORT_VERSION),
        ],
        settings=settings_of("report"),
        rounds=round_folders,
        benchmarks=EVALUATED,
        num_shards=CONFIG.problems.num_shards,
    message:
        "report"
    shell:
        "python -m mpd.report --settings {params.settings:q} --rounds {params.rounds:q}"
        " --benchmarks {params.benchmarks:q} --num-shards {params.num_shards}"
        " --problems {input.problems:q} --student {input.student:q} --output {output.report:q}"
        " --mode {resources.store} 2>&1 | tee -i {log:q}"
