# Requires: a shard of problems, trajectories and rewrites.
# Gives: a verdict on every rewrite, and which ones are kept.


rule filter:
    input:
        problems=shards_in("results/{experiment}/problems/train"),
        sample=shards_in(
            "results/{experiment}/{method}/seed_{seed}/round_{round}/sample"
        ),
        compress=shards_in(
            "results/{experiment}/{method}/seed_{seed}/round_{round}/compress"
        ),
    output:
        shards_in("results/{experiment}/{method}/seed_{seed}/round_{round}/filter"),
    log:
        shard_file("logs", "filter", "log"),
    benchmark:
        shard_file("benchmarks", "filter", "jsonl")
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
        shard_message("filter")
    shell:
        "python -m mpd.filter --settings {params.settings:q} --problems {input.problems:q}"
        " --sample {input.sample:q} --compress {input.compress:q} --output {output:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
