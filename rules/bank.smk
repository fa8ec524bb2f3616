# Requires: the training problems, all shards of rewrites and verdicts of the rounds before, and the
# embedder.
# Gives: a bank of reasoning paths, and the route of each problem along it. Only branches with
# compress.bank have it, from round 2 on.


rule bank:
    input:
        problems=expand(
            "results/{{experiment}}/problems/train/shard_{shard}.parquet",
            shard=range(CONFIG.problems.num_shards),
        ),
        compress=shards_before("compress"),
        filter=shards_before("filter"),
        embedder="results/{experiment}/models/embedder/manifest.json",
    output:
        bank="results/{experiment}/{method}/seed_{seed}/round_{round}/bank/bank.parquet",
        routes="results/{experiment}/{method}/seed_{seed}/round_{round}/bank/routes.parquet",
    log:
        "results/{experiment}/logs/{method}/seed_{seed}/round_{round}/bank.log",
    benchmark:
        "results/{experiment}/benchmarks/{method}/seed_{seed}/round_{round}/bank.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: RESOURCES.bank.threads
    resources:
        mem_mb=memory_of("bank"),
        runtime=runtime_of("bank"),
        store=CONFIG.store,
    params:
        version=[schema.BANK.version, schema.ROUTES.version],
        settings=settings_of("bank"),
    message:
        "bank {wildcards.method}/seed_{wildcards.seed}/round_{wildcards.round}"
    shell:
        "python -m mpd.bank --settings {params.settings:q} --problems {input.problems:q}"
        " --compress {input.compress:q} --filter {input.filter:q} --embedder {input.embedder:q}"
        " --output {output.bank:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
