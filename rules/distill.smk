# Requires: all shards of a round's cache, and the student of the round before.
# Gives: the student of this round, with its manifest and training metrics.


rule distill:
    input:
        student=previous_student,
        logits=shards_of("logits"),
        filter=shards_of("filter"),
        head=teacher_head,
        base=base_student,
    output:
        manifest="results/{experiment}/{method}/seed_{seed}/round_{round}/student/manifest.json",
        metrics="results/{experiment}/{method}/seed_{seed}/round_{round}/student/metrics.parquet",
    log:
        "results/{experiment}/logs/{method}/seed_{seed}/round_{round}/distill.log",
    benchmark:
        "results/{experiment}/benchmarks/{method}/seed_{seed}/round_{round}/distill.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: RESOURCES.distill.threads
    resources:
        gpu=RESOURCES.distill.gpu,
        mem_mb=memory_of("distill"),
        runtime=runtime_of("distill"),
        stage=resources_of("distill"),
        store=CONFIG.store,
    params:
        version=schema.student_version(),
        settings=settings_of("distill"),
    message:
        "distill {wildcards.method}/seed_{wildcards.seed}/round_{wildcards.round}"
    shell:
        "python -m mpd.distill --settings {params.settings:q} --student {input.student:q}"
        " --logits {input.logits:q} --filter {input.filter:q} --head {input.head:q}"
        " --base {input.base:q}"
        " --output {output.manifest:q}"
        " --resources {resources.stage:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
