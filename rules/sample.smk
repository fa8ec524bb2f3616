# Requires: a shard of problems, and the model that samples: the student of the round before, or the
# teacher for some methods; or the user's own trajectories, which replace the samples.
# Gives: the trajectories.


rule sample:
    input:
        problems=shards_in("results/{experiment}/problems/train"),
        student=sampling_model,
        learner=trained_model,
        trajectories=given_trajectories,
        training=problems_of_given_trajectories,
    output:
        shards_in("results/{experiment}/{method}/seed_{seed}/round_{round}/sample"),
    log:
        shard_file("logs", "sample", "log"),
    benchmark:
        shard_file("benchmarks", "sample", "jsonl")
    conda:
        f"../envs/{CONFIG.sample.engine}.yaml"
    threads: RESOURCES.sample.threads
    resources:
        gpu=RESOURCES.sample.gpu,
        mem_mb=memory_of("sample"),
        runtime=runtime_of("sample"),
        stage=resources_of("sample"),
        store=CONFIG.store,
    params:
        version=schema.SAMPLE.version,
        settings=settings_of("sample"),
    message:
        shard_message("sample")
    shell:
        "python -m mpd.sample --settings {params.settings:q} --problems {input.problems:q}"
        " --student {input.student:q} --learner {input.learner:q} --training {input.training:q} --output {output:q}"
        " --resources {resources.stage:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
