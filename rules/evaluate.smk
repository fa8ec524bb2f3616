# Requires: a student's answers, the problems that they answer, and the student for its tokenizer.
# Gives: the grades of the answers; no model runs. One job grades all of them.


rule evaluate:
    input:
        student=final_student,
        dev="results/{experiment}/problems/train/dev.parquet",
        benchmarks=benchmark_files,
        answers=expand(
            "results/{{experiment}}/{{method}}/seed_{{seed}}/round_{{round}}/answers/{name}.parquet",
            name=EVALUATED,
        ),
    output:
        dev="results/{experiment}/{method}/seed_{seed}/round_{round}/evaluate/dev.parquet",
        benchmarks=expand(
            "results/{{experiment}}/{{method}}/seed_{{seed}}/round_{{round}}/evaluate/{name}.parquet",
            name=BENCHMARKS,
        ),
    log:
        "results/{experiment}/logs/{method}/seed_{seed}/round_{round}/evaluate.log",
    benchmark:
        "results/{experiment}/benchmarks/{method}/seed_{seed}/round_{round}/evaluate.jsonl"
    conda:
        "../envs/transformers.yaml"
    threads: RESOURCES.grading.threads
    resources:
        mem_mb=memory_of("grading"),
        runtime=runtime_of("grading"),
        store=CONFIG.store,
    params:
        version=schema.EVALUATE.version,
        settings=settings_of("evaluate"),
        benchmarks=benchmark_arguments,
        answers=answer_arguments,
    message:
        "evaluate {wildcards.method}/seed_{wildcards.seed}/round_{wildcards.round}"
    shell:
        "python -m mpd.evaluate --settings {params.settings:q} --student {input.student:q}"
        " --benchmarks {params.benchmarks:q} --answers {params.answers:q}"
        " --output results/{wildcards.experiment}/{wildcards.method}/seed_{wildcards.seed}/round_{wildcards.round}/evaluate"
        " --mode {resources.store} --threads {threads} 2>&1 | tee -i {log:q}"
