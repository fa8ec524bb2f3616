# Requires: a shard of problems and of trajectories, the teacher that rewrites, the student, whose
# format the rewrites get, and where there is a bank of paths, the routes along it.
# Gives: the rewrites, with the token ids that are trained on.


rule compress:
    input:
        problems=shards_in("results/{experiment}/problems/train"),
        sample=shards_in(
            "results/{experiment}/{method}/seed_{seed}/round_{round}/sample"
        ),
        student=cached_student,
        teacher="results/{experiment}/models/teacher/manifest.json",
        routes=routes_of_problems,
    output:
        shards_in("results/{experiment}/{method}/seed_{seed}/round_{round}/compress"),
    log:
        shard_file("logs", "compress", "log"),
    benchmark:
        shard_file("benchmarks", "compress", "jsonl")
    conda:
        f"../envs/{CONFIG.compress.engine}.yaml"
    threads: RESOURCES.compress.threads
    resources:
        gpu=RESOURCES.compress.gpu,
        mem_mb=memory_of("compress"),
        runtime=runtime_of("compress"),
        stage=resources_of("compress"),
        store=CONFIG.store,
    params:
        version=schema.COMPRESS.version,
        settings=settings_of("compress"),
    message:
        shard_message("compress")
    shell:
        "python -m mpd.compress --settings {params.settings:q} --problems {input.problems:q}"
        " --sample {input.sample:q} --student {input.student:q} --teacher {input.teacher:q}"
        " --routes {input.routes:q} --output {output:q}"
        " --resources {resources.stage:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
