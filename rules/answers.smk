# Requires: a student, and the problems of the development split and of every benchmark.
# Gives: its answers, ungraded. One job answers all of them; the store computes only new ones.


rule answers:
    input:
        student=final_student,
        dev="results/{experiment}/problems/train/dev.parquet",
        benchmarks=benchmark_files,
    output:
        dev="results/{experiment}/{method}/seed_{seed}/round_{round}/answers/dev.parquet",
        benchmarks=expand(
            "results/{{experiment}}/{{method}}/seed_{{seed}}/round_{{round}}/answers/{name}.parquet",
            name=BENCHMARKS,
        ),
    log:
        "results/{experiment}/logs/{method}/seed_{seed}/round_{round}/answers.log",
    benchmark:
        "results/{experiment}/benchmarks/{method}/seed_{seed}/round_{round}/answers.jsonl"
    conda:
        f"../envs/{CONFIG.evaluate.engine}.yaml"
    threads: RESOURCES.evaluate.threads
    resources:
        gpu=RESOURCES.evaluate.gpu,
        mem_mb=memory_of("evaluate"),
        runtime=runtime_of("evaluate"),
        stage=resources_of("evaluate"),
        store=CONFIG.store,
    params:
        version=schema.ANSWERS.version,
        settings=settings_of("answers"),
        benchmarks=benchmark_arguments,
    message:
        "answers {wildcards.method}/seed_{wildcards.seed}/round_{wildcards.round}"
    shell:
        "python -m mpd.answers --settings {params.settings:q} --student {input.student:q}"
        " --benchmarks {params.benchmarks:q}"
        " --output results/{wildcards.experiment}/{wildcards.method}/seed_{wildcards.seed}/round_{wildcards.round}/answers"
        " --resources {resources.stage:q}"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
