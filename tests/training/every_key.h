// A configuration in which every key has another value than its default, as to_yaml() writes it.
#pragma once

namespace switchyard {

// Every key, none at its default: what is read, written or compared wrongly shows.
inline constexpr const char* kEveryKey = R"(config_version: 1
name: "all"
model:
  vocab_size: 300
  num_layers: 6
  hidden_size: 24
  ffn_hidden_size: 40
  activation: geglu
  sequence_mixer: attention
  num_attention_heads: 6
  num_key_value_heads: 3
  head_dim: 8
  max_sequence_length: 64
  rope_theta: 500000
  norm_eps: 1e-06
  init_std: 0.01
  tie_embeddings: true
  norm_placement: post
  qkv_bias: true
  ffn_bias: true
  mtp_layers: 2
  mtp_loss_coeff: 0.3
  attention:
    output_bias: true
    qk_norm: unit
    clip_qkv: 8
    sinks: true
    window: 16
    chunk: 0
    full_layers: {every: 3}
    nope_layers: [1, 2]
    temperature_scale: 0.1
    temperature_floor: 4096
    kv_lora_rank: 0
  rope:
    interleaved: true
    fraction: 0.5
    scaling: yarn
    factor: 4
    original_length: 16
    beta_fast: 30
    beta_slow: 2
    truncate: false
    attention_factor: 1.2
    mscale: 0.8
    mscale_all_dim: 0.9
  moe:
    num_experts: 12
    num_experts_by_layer: {2: 24}
    top_k: 3
    ffn_hidden_size: 10
    activation: clamped_swiglu
    nested_experts: 4
    nested_top_k: 3
    expert_bias: true
    expert_dropout: 0.3
    shared_expert_ffn_hidden_size: 14
    shared_expert_gate: true
    residual: false
    layers: [1, 2, 5]
    router: "top_k"
    score: sigmoid
    renormalize: false
    scale: 2.5
    bias_update: 0.001
    apply: input
    router_bias: true
    input_jitter: 0.04
    groups: 4
    group_top_k: 2
    group_score: best_two
    aux_loss_coeff: {0: 0.02, 100: 0.01}
    aux_loss_scope: sequence
    aux_loss_form: megatron
    aux_loss_counts: first_choice
    sequence_loss_coeff: 0.0001
    importance_loss_coeff: 0.05
    importance_loss_scope: lagged
    load_loss_coeff: 0
    load_loss_scope: running
    group_loss_coeff: 0.06
    group_loss_scope: micro_batch
    communication_loss_coeff: 0.07
    communication_loss_scope: sequence
    nested_loss_coeff: 0.08
    z_loss_coeff: 0.003
    domains: 3
    domain_loss_coeff: 0.2
    capacity_factor: 1.5
    eval_capacity_factor: 2
    capacity_group: {sequences: 2}
    min_capacity: 4
    drop_order: random
parallel:
  expert: 4
  rank_order: expert_outer
  zero_stage: 1
  gradient_bucket_size: 1000
  overlap_gradient_sync: true
  dispatch_chunks: 3
  overlap_shared_expert: false
  all_to_all: hierarchical
  timeout_seconds: 30
data:
  format: tokens
  token_dtype: uint32
  sequence_length: 32
  reset_attention_mask: true
  reset_position_ids: true
  sources:
    - name: "first"
      path: ["a.bin", "b.bin"]
      validation_path: ["c.bin"]
      validation_fraction: 0
      weight: 2
    - name: "with \"quotes\""
      path: ["d.bin"]
      validation_path: []
      validation_fraction: 0.1
      weight: 0.3
optimizer:
  learning_rate: 0.0003
  beta1: 0.8
  beta2: 0.99
  eps: 1e-10
  weight_decay: 0.05
  clip_grad_norm: 0.5
schedule:
  kind: wsd
  warmup_steps: 7
  min_ratio: 0.2
  decay_fraction: 0.4
training:
  steps: 90
  max_minutes: 2.5
  seed: 99
  precision: fp64
  device: cpu
  global_batch_size: 32
  micro_batch_size: 4
  threads: 3
  non_finite: skip
  recompute: block
routing:
  record: "choices"
  replay: null
evaluation:
  every: 10
  max_sequences: 11
checkpoint:
  every: 20
  keep: 5
  at_end: false
  on_failure: stop
logging:
  every: 3
  tensorboard: false
  peak_gflops: 123.5
)";

}  // namespace switchyard
