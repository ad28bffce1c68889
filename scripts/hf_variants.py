"""The variants of the families that scripts/make_hf_fixtures.py makes: what each sets, with sizes drawn at random."""


def sizes(draw, head_dim_is_free=True):
    """Odd ones, so that dimensions that change places do not fit."""
    groups, sharing = draw.choice([(1, 3), (2, 2), (3, 1), (3, 2)])
    heads, head_dim = groups * sharing, draw.choice([4, 6, 8])
    shape = dict(vocab_size=draw.randrange(37, 62, 2), num_hidden_layers=draw.choice([2, 3]), num_attention_heads=heads,
                 num_key_value_heads=groups, intermediate_size=draw.randrange(9, 22), max_position_embeddings=draw.choice([40, 64]),
                 pad_token_id=None, bos_token_id=1, eos_token_id=2)
    if head_dim_is_free:
        return dict(shape, hidden_size=heads * draw.choice([5, 7] if heads < 5 else [3]), head_dim=head_dim)
    return dict(shape, hidden_size=heads * (head_dim if heads < 5 else 4))


def experts(draw, count_key="num_experts", width_key="moe_intermediate_size", coefficient=True):
    shape = {count_key: draw.choice([5, 6, 7]), "num_experts_per_tok": draw.choice([2, 3]), width_key: draw.randrange(5, 12)}
    return dict(shape, router_aux_loss_coef=round(draw.uniform(0.2, 0.9), 2)) if coefficient else shape


def llama3_rope(draw):
    return dict(rope_type="llama3", rope_theta=5e5, factor=draw.choice([4.0, 8.0]), low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=16)


def yarn_rope(draw, **more):
    """With the ramp inside the pairs of a width of 8."""
    return dict(rope_type="yarn", rope_theta=1e4, factor=draw.choice([8.0, 40.0]), beta_fast=32, beta_slow=1,
                original_max_position_embeddings=2048, **more)


def latent(draw):
    """What DeepSeek-V2 turns as complex numbers must lie at even places."""
    heads = draw.choice([2, 3])
    return dict(vocab_size=draw.randrange(37, 62, 2), hidden_size=heads * draw.choice([7, 9]), num_attention_heads=heads,
                num_key_value_heads=heads, intermediate_size=draw.randrange(13, 22), num_hidden_layers=3, max_position_embeddings=4096,
                kv_lora_rank=draw.choice([10, 14]), qk_nope_head_dim=draw.choice([6, 10]), qk_rope_head_dim=draw.choice([8, 10]),
                v_head_dim=draw.choice([5, 9]), first_k_dense_replace=1, rms_norm_eps=1e-4, pad_token_id=None, n_routed_experts=8,
                num_experts_per_tok=3, moe_intermediate_size=draw.randrange(5, 10))


def variants():
    """name -> (family in transformers, keys by a random source, how it is written)"""
    def dense(**keys):
        return lambda draw: dict(sizes(draw), **{k: v(draw) if callable(v) else v for k, v in keys.items()})

    def tied(draw, head_dim_is_free=True):
        return dict(sizes(draw, head_dim_is_free), tie_word_embeddings=True)

    return {
        "llama": ("Llama", dense(rope_parameters=llama3_rope, rms_norm_eps=1e-5), {"dtype": "float16"}),
        "llama_biased": ("Llama", lambda draw: dict(tied(draw), attention_bias=True, mlp_bias=True,
                                                    rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=1e4)), {}),
        "mistral": ("Mistral", dense(sliding_window=5), {}),
        "olmo2": ("Olmo2", lambda draw: dict(sizes(draw, False), rope_parameters=dict(rope_type="default", rope_theta=5e5)), {}),
        "qwen3": ("Qwen3", lambda draw: dict(tied(draw), use_sliding_window=True, sliding_window=4, max_window_layers=1), {}),
        "mixtral": ("Mixtral", lambda draw: dict(sizes(draw), **experts(draw, "num_local_experts", "intermediate_size")),
                    {"dtype": "bfloat16", "shard_bytes": 12000}),
        "mixtral_window": ("Mixtral", lambda draw: dict(sizes(draw), sliding_window=5, **experts(draw, "num_local_experts", "intermediate_size")),
                           {"version_4": True}),
        "qwen2_moe": ("Qwen2Moe", lambda draw: dict(sizes(draw, False), shared_expert_intermediate_size=13, mlp_only_layers=[1],
                                                    **experts(draw)), {}),
        "qwen2_moe_window": ("Qwen2Moe", lambda draw: dict(sizes(draw, False), shared_expert_intermediate_size=9, norm_topk_prob=True,
                                                           use_sliding_window=True, sliding_window=4, max_window_layers=2, **experts(draw)), {}),
        "qwen3_moe": ("Qwen3Moe", lambda draw: dict(tied(draw), norm_topk_prob=True, **experts(draw)), {"stacked": True}),
        "qwen3_moe_mixed": ("Qwen3Moe", lambda draw: dict(sizes(draw), decoder_sparse_step=2, attention_bias=True, **experts(draw)),
                            {"version_4": True}),
        "olmoe": ("Olmoe", lambda draw: dict(sizes(draw, False), clip_qkv=0.9, **experts(draw, width_key="intermediate_size")), {}),
        "flex_olmo": ("FlexOlmo", lambda draw: dict(sizes(draw, False), norm_topk_prob=draw.random() < 0.5,
                                                    **experts(draw, width_key="intermediate_size")), {}),
        "deepseek_v2": ("DeepseekV2", lambda draw: dict(latent(draw), q_lora_rank=10, n_shared_experts=2, n_group=4, topk_group=2,
                                                        topk_method="group_limited_greedy", routed_scaling_factor=2.0,
                                                        rope_parameters=yarn_rope(draw, mscale=0.707, mscale_all_dim=0.707)), {}),
        "deepseek_v2_lite": ("DeepseekV2", lambda draw: dict(latent(draw), q_lora_rank=None, n_shared_experts=2, topk_method="greedy",
                                                             n_group=1, topk_group=1,
                                                             rope_parameters=yarn_rope(draw, mscale=1.2, mscale_all_dim=0.707)),
                             {"version_4": True}),
        "deepseek_v3": ("DeepseekV3", lambda draw: dict(latent(draw), q_lora_rank=10, n_shared_experts=1, n_group=4, topk_group=2,
                                                        attention_bias=True, rope_parameters=yarn_rope(draw, mscale=1.0, mscale_all_dim=1.0)), {}),
        "deepseek_v3_plain": ("DeepseekV3", lambda draw: dict(latent(draw), q_lora_rank=None, rope_interleave=False, norm_topk_prob=False,
                                                              n_group=1, topk_group=1), {}),
        "llama4_text": ("Llama4Text", lambda draw: dict(sizes(draw), num_hidden_layers=4, interleave_moe_layer_step=2, attention_chunk_size=5,
                                                        floor_scale=4, intermediate_size_mlp=17, no_rope_layer_interval=3,
                                                        rope_parameters=llama3_rope(draw), num_local_experts=4, num_experts_per_tok=1), {}),
        "llama4_text_top2": ("Llama4Text", lambda draw: dict(sizes(draw), intermediate_size_mlp=17, use_qk_norm=False, no_rope_layer_interval=2,
                                                             attn_temperature_tuning=False, attention_chunk_size=4, num_local_experts=5,
                                                             num_experts_per_tok=2), {}),
        "gpt_oss": ("GptOss", lambda draw: dict(sizes(draw), head_dim=draw.choice([8, 10]), sliding_window=4, max_position_embeddings=4096,
                                                rope_parameters=dict(yarn_rope(draw), rope_theta=1.5e5, truncate=False),
                                                **experts(draw, "num_local_experts", "intermediate_size")), {}),
    }
