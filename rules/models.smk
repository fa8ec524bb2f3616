# Requires: the local files that a model comes from, if any.
# Gives: a model folder with the manifest of its digests, for the teacher, for the base student of
# each seed, and for the embedder, where there is a bank of paths.


rule models:
    input:
        local_model_files,
    output:
        manifest="results/{experiment}/models/{role}/manifest.json",
    log:
        "results/{experiment}/logs/models/{role}.log",
    benchmark:
        "results/{experiment}/benchmarks/models/{role}.jsonl"
    # Pretraining takes longest, and all rounds wait for it.
    priority: 1
    conda:
        "../envs/transformers.yaml"
    threads: RESOURCES.models.threads
    resources:
        gpu=RESOURCES.models.gpu,
        mem_mb=memory_of("models"),
        runtime=runtime_of("models"),
        store=CONFIG.store,
    params:
        version=schema.MODELS_VERSION,
        settings=settings_of("models"),
    message:
        "models {wildcards.role}"
    shell:
        "python -m mpd.models --settings {params.settings:q} --output {output.manifest:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
