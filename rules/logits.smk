# Requires: the kept rewrites of a shard, the model that scores them, and the current student.
# Gives: the cache of the scorer's log-probabilities.


rule logits:
    input:
        problems=shards_in("results/{experiment}/problems/train"),
        sample=shards_in(
            "results/{experiment}/{method}/seed_{seed}/round_{round}/sample"
        ),
        compress=shards_in(
            "results/{experiment}/{method}/seed_{seed}/round_{round}/compress"
        ),
        filter=shards_in(
            "results/{experiment}/{method}/seed_{seed}/round_{round}/filter"
        ),
        student=cached_student,
        teacher=scoring_model,
        references=references_of_scorer,
    output:
        shards_in("results/{experiment}/{method}/seed_{seed}/round_{round}/logits"),
    log:
        shard_file("logs", "logits", "log"),
    benchmark:
        shard_file("benchmarks", "logits", "jsonl")
    conda:
        f"../envs/{CONFIG.logits.engine}.yaml"
    threads: RESOURCES.logits.threads
    resources:
        gpu=RESOURCES.logits.gpu,
        mem_mb=memory_of("logits"),
        runtime=runtime_of("logits"),
        stage=resources_of("logits"),
        store=CONFIG.store,
    params:
        version=schema.LOGITS.version,
        settings=settings_of("logits"),
    message:
        shard_message("logits")
    shell:
        "python -m mpd.logits --settings {params.settings:q} --problems {input.problems:q}"
        " --sample {input.sample:q} --compress {input.compress:q} --filter {input.filter:q}"
        " --student {input.student:q} --teacher {input.teacher:q}"
        " --references {input.references:q} --output {output:q}"
        " --resources {resources.stage:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"


# Requires: the teacher, or the base student where that scores.
# Gives: its output head, once for an experiment; a cache of hidden states needs it.
rule head:
    input:
        teacher=model_of_head,
    output:
        "results/{experiment}/models/{head}/head.safetensors",
    log:
        "results/{experiment}/logs/models/{head}.log",
    benchmark:
        "results/{experiment}/benchmarks/models/{head}.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: RESOURCES.models.threads
    resources:
        gpu=RESOURCES.models.gpu,
        mem_mb=memory_of("models"),
        runtime=runtime_of("models"),
        store=CONFIG.store,
    params:
        version=schema.HEAD_VERSION,
        settings=settings_of("head"),
    message:
        "{wildcards.head} models"
    shell:
        "python -m mpd.head --settings {params.settings:q} --teacher {input.teacher:q}"
        " --output {output:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
