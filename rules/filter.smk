# Requires: a shard of problems, trajectories and rewrites.
# Gives: a verdict on every rewrite, and which ones are kept.


rule filter:
    input:
        problems="results/{experiment}/problems/train/shard_{shard}.parquet",
        sample="results/{experiment}/{method}/seed_{seed}/round_{round}/sample/shard_{shard}.parquet",
        compress="results/{experiment}/{method}/seed_{seed}/round_{round}/compress/shard_{shard}.parquet",
    output:
        "results/{experiment}/{method}/seed_{seed}/round_{round}/filter/shard_{shard}.parquet",
    log:
        "results/{experiment}/logs/{method}/seed_{seed}/round_{round}/filter/shard_{shard}.log",
    benchmark:
        "results/{experiment}/benchmarks/{method}/seed_{seed}/round_{round}/filter/shard_{shard}.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: RESOURCES.filter.threads
    resources:
        mem_mb=memory_of("filter"),
        runtime=runtime_of("filter"),
        store=CONFIG.store,
    params:
        version=schema.FILTER.version,
        settings=settings_of("filter"),
    message:
        "filter {wildcards.method}/seed_{wildcards.seed}/round_{wildcards.round}/shard_{wildcards.shard}"
    shell:
        "python -m mpd.filter --settings {params.settings:q} --problems {input.problems:q}"
        " --sample {input.sample:q} --compress {input.compress:q} --output {output:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
