# Recipes of the development loop. `just` lists them.

default:
    @just --list

# Chat, describe and paint with the embedded model.
try:
    cargo run --release -- try

# What CI runs: format, lints, tests, invariants.
ci:
    bash .ci/run

test *ARGS:
    cargo test --release --workspace {{ARGS}}

# Only the numbers of the original implementation.
golden:
    cargo test --release --workspace golden

lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings
    cargo xtask tidy

# Retrain the embedded model from an empty folder, as LOG.md tells.
embedded:
    cargo run --release -- train-tokenizer --data assets/data --size 1024 -o out/tokenizer
    for run in tokenizer-image stage1 stage2; do cargo run --release -- train runs/$run.toml --resume; done
    for part in stage2b stage2c tokenizer-image-decoder tokenizer-image-2; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    for part in d e f g h i j k; do cargo run --release -- train runs/embedded/stage2$part.toml --resume; done
    for part in decoder corners edges; do cargo run --release -- train runs/embedded/tokenizer-image-2-$part.toml --resume; done
    cargo run --release -- train runs/stage3.toml --resume
    for part in stage2l stage2m stage3b stage2n; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- train runs/embedded/stage3b.toml --resume model.init.from=out/stage2n/model run.name=stage3c run.out=out/stage3c run.seed=2 'objective.masks="window"'
    cargo run --release -- train runs/embedded/stage2o.toml --resume
    cargo run --release -- train runs/embedded/stage2o.toml --resume model.init.from=out/stage2o/model run.name=stage2p run.out=out/stage2p run.seed=61 run.steps=1600 lr.peak=4e-4 data.0.weight=0.20 data.4.weight=0.22 data.6.weight=0.24 data.7.weight=0.04
    for part in stage2q stage2r stage2s stage2t stage3d; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- train runs/embedded/stage3g.toml --resume model.init.from=out/stage3d/model run.name=stage3e run.out=out/stage3e run.seed=5 run.steps=160 lr.peak=6e-5 lr.decay=constant
    cargo run --release -- train runs/embedded/stage3g.toml --resume model.init.from=out/stage3e/model run.name=stage3f run.out=out/stage3f run.seed=6 run.steps=40 lr.peak=6e-5 lr.decay=constant objective.surrogate.kl=0.002
    cargo run --release -- train runs/embedded/stage3g.toml --resume
    cargo run --release -- train runs/embedded/stage3h.toml --resume run.name=stage3h-1 run.out=out/stage3h-1 run.seed=8 run.steps=320
    cargo run --release -- train runs/embedded/stage3h.toml --resume model.init.from=out/stage3h-1/model
    cargo run --release -- eval paint --model out/stage3h/model --data assets/data/animals --split train --samples 120 --seed 501 --keep out/kept-animals.jsonl
    cargo run --release -- eval paint --model out/stage3h/model --data assets/data/shapes --split train --samples 60 --seed 502 --keep out/kept-shapes.jsonl
    sed -E 's/"prompt":"a silhouette of an? /"prompt":"/; n; s/"prompt":"a silhouette of /"prompt":"/' out/kept-animals.jsonl > out/kept-wished.jsonl
    sed 's/"prompt":"a /"prompt":"/' out/kept-shapes.jsonl > out/kept-shapes-wished.jsonl
    for part in stage2u stage3i; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- train runs/embedded/stage3i.toml --resume model.init.from=out/stage3i/model run.name=stage3j run.out=out/stage3j run.seed=11 run.steps=360
    cargo run --release -- eval paint --model out/stage3j/model --data assets/data/animals --split train --samples 120 --seed 601 --keep out/kept-2-animals.jsonl
    cargo run --release -- eval paint --model out/stage3j/model --data assets/data/shapes --split train --samples 60 --seed 602 --keep out/kept-2-shapes.jsonl
    sed -E 's/"prompt":"a silhouette of an? /"prompt":"/; n; s/"prompt":"a silhouette of /"prompt":"/' out/kept-2-animals.jsonl > out/kept-2-wished.jsonl
    sed 's/"prompt":"a /"prompt":"/' out/kept-2-shapes.jsonl > out/kept-2-shapes-wished.jsonl
    for part in stage2v stage3k; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- eval paint --model out/stage3k/model --data assets/data/shapes --split train --samples 60 --seed 702 --keep out/kept-3-shapes.jsonl
    sed 's/"prompt":"a /"prompt":"/' out/kept-3-shapes.jsonl > out/kept-3-shapes-wished.jsonl
    for part in stage2w stage3l stage3m; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- eval paint --model out/stage3m/model --data assets/data/shapes --split train --samples 60 --seed 703 --keep out/kept-4-shapes.jsonl
    cargo run --release -- eval paint --model out/stage3m/model --data assets/data/animals --split train --samples 80 --seed 704 --keep out/kept-4-animals.jsonl
    sed 's/"prompt":"a /"prompt":"/' out/kept-4-shapes.jsonl > out/kept-4-shapes-wished.jsonl
    sed -E 's/"prompt":"a silhouette of an? /"prompt":"/' out/kept-4-animals.jsonl > out/kept-4-animals-wished.jsonl
    for part in stage2x stage3n; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    for part in stage2y stage3o; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    for part in stage2z stage3p; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    for part in stage2aa stage3q; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- merge out/stage3q/model out/edition17 --base out/stage2aa/model --scale 0.5
    for part in stage2bb stage3r; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- merge out/stage3r/model out/edition18 --base out/stage2bb/model --scale 0.75
    for part in stage2cc stage3s; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- merge out/stage3s/model out/edition19 --base out/stage2cc/model --scale 0.75
    cargo run --release -- train runs/embedded/stage3t.toml --resume
    cargo run --release -- eval paint --model out/stage3t/model --data assets/data/shapes --split train --samples 40 --best-of 1 --seed 803 --keep out/kept-5-shapes.jsonl
    cargo run --release -- eval paint --model out/stage3t/model --data assets/data/animals --split train --samples 80 --best-of 1 --seed 804 --keep out/kept-5-animals.jsonl
    sed 's/"prompt":"a /"prompt":"/' out/kept-5-shapes.jsonl > out/kept-5-shapes-wished.jsonl
    sed -E 's/"prompt":"a silhouette of an? /"prompt":"/' out/kept-5-animals.jsonl > out/kept-5-animals-wished.jsonl
    cargo run --release -- train runs/embedded/stage2ff.toml --resume
    cargo run --release -- eval paint --model out/stage3t/model --data assets/data/animals --split train --samples 200 --best-of 1 --seed 904 --precision bf16 --keep out/kept-6-animals.jsonl
    cargo run --release -- eval paint --model out/stage3t/model --data assets/data/shapes --split train --samples 60 --best-of 1 --seed 903 --precision bf16 --keep out/kept-6-shapes.jsonl
    sed 's/"prompt":"a /"prompt":"/' out/kept-6-shapes.jsonl > out/kept-6-shapes-wished.jsonl
    sed -E 's/"prompt":"a silhouette of an? /"prompt":"/' out/kept-6-animals.jsonl > out/kept-6-animals-wished.jsonl
    for part in stage2gg stage3u; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- eval paint --model out/stage3u/model --data assets/data/shapes --split train --samples 60 --best-of 1 --seed 1003 --precision bf16 --keep out/kept-7-shapes.jsonl
    for part in stage2hh stage3v; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    for part in stage2ii stage2jj stage2kk stage3w; do cargo run --release -- train runs/embedded/$part.toml --resume; done
    cargo run --release -- merge out/stage2kk/model out/stage2kk-half --base out/stage2jj/model --scale 0.5
    cargo run --release -- merge out/stage3w/model out/stage2kk-half out/edition24 --base out/stage2kk/model
    cp -r out/edition24/. assets/model/
    cp -r out/tokenizer-image-2-edges/model/. assets/model/image_tokenizer/

# With and without thoughts before reinforcement; LOG.md tells the result.
ablation:
    cargo build --release
    target/release/mmada train runs/ablation-thoughts.toml
    target/release/mmada train runs/ablation-thoughts.toml run.out=out/ablation-direct \
        'data.0.views=[{ task = "chat", prompt = "{messages.0.content}", answer = "{answer}" }]' \
        'data.1.views=[{ task = "describe", prompt = "{question}", answer = "{answer}" }]'
    for kind in thoughts direct; do \
        target/release/mmada train runs/unigrpo-questions.toml model.init.from=out/ablation-$kind/model run.out=out/ablation-questions-$kind \
            'objective.rewards.describe=[{ grader = "plain", weight = 2.0 }]'; \
        target/release/mmada train runs/unigrpo-sums.toml model.init.from=out/ablation-$kind/model run.out=out/ablation-sums-$kind \
            'objective.rewards.chat=[{ grader = "answer", weight = 2.0 }]'; \
    done

# Every benchmark of the README on all test items; the exact commands stand below its table.
eval MODEL="assets/model":
    cargo run --release -- eval all --model {{MODEL}} --data assets/data --split test

# Score and cost of every sampler, task by task; run it on an idle machine.
samplers MODEL="assets/model" LIMIT="200":
    cargo build --release
    for sampler in exact cached parallel verified fast turbo; do \
        echo "== $sampler"; \
        target/release/mmada eval reasoning --model {{MODEL}} --data assets/data/arithmetic --limit {{LIMIT}} --sampler $sampler; \
        target/release/mmada eval vqa --model {{MODEL}} --data assets/data/shapes --limit {{LIMIT}} --sampler $sampler; \
        target/release/mmada eval caption --model {{MODEL}} --data assets/data/shapes --limit {{LIMIT}} --sampler $sampler; \
        target/release/mmada eval paint --model {{MODEL}} --data assets/data/shapes --samples 8 --best-of 1 --sampler $sampler; \
    done
