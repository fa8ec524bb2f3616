# Requires: the local files of the training problems and of a development split of its own, if any, and
# the benchmarks, whose problems are not trained on.
# Gives: the training problems in shards, the development split, and what was left out. One job
# writes all shards, so that another number of them reruns what follows.


rule problems:
    input:
        local_train_files,
        benchmarks=benchmark_files,
    output:
        # Without wildcards: Snakemake would try each pattern on each file of the workflow.
        shards=EXPERIMENT.train_shards(CONFIG.problems.num_shards),
        dev=EXPERIMENT.train / "dev.parquet",
        dropped=EXPERIMENT.train / "dropped.parquet",
        references=REFERENCES,
    log:
        EXPERIMENT.folder / "logs/problems/train.log",
    benchmark:
        EXPERIMENT.folder / "benchmarks/problems/train.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: 1
    resources:
        mem_mb=memory_of("problems"),
        runtime=runtime_of("problems"),
        store=CONFIG.store,
    params:
        version=train_version,
        settings=settings_of("problems"),
        folder=EXPERIMENT.train,
    message:
        "problems train"
    shell:
        "python -m mpd.problems --settings {params.settings:q}"
        " --benchmarks {input.benchmarks:q} --output {params.folder:q}"
        " --mode {resources.store} 2>&1 | tee -i {log:q}"


# Requires: the local file of a benchmark, if any.
# Gives: its problems.
rule benchmark_problems:
    input:
        local_benchmark_file,
    output:
        "results/{experiment}/problems/eval/{benchmark}.parquet",
    log:
        "results/{experiment}/logs/problems/{benchmark}.log",
    benchmark:
        "results/{experiment}/benchmarks/problems/{benchmark}.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: 1
    resources:
        mem_mb=memory_of("problems"),
        runtime=runtime_of("problems"),
        store=CONFIG.store,
    params:
        version=benchmark_version,
        settings=settings_of("benchmark_problems"),
    message:
        "problems eval/{wildcards.benchmark}"
    shell:
        "python -m mpd.problems --settings {params.settings:q} --output {output:q}"
        " --mode {resources.store} 2>&1 | tee -i {log:q}"
