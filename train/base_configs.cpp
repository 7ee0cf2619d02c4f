#include "train/base_configs.h"

#include "data/printed_digits.h"

namespace realfake::base {

Json vae_config() {
  return {{"_class_name", "AutoencoderKL"},
          {"act_fn", "silu"},
          {"block_out_channels", {32, 64}},
          {"down_block_types", {"DownEncoderBlock2D", "DownEncoderBlock2D"}},
          {"up_block_types", {"UpDecoderBlock2D", "UpDecoderBlock2D"}},
          {"in_channels", 3},
          {"out_channels", 3},
          {"latent_channels", 4},
          {"layers_per_block", 1},
          {"norm_num_groups", 8},
          {"sample_size", printed_side},
          {"scaling_factor", 1.0}};
}

Json unet_config() {
  return {{"_class_name", "UNet2DConditionModel"},
          {"act_fn", "silu"},
          {"attention_head_dim", 4},  // a number of heads, as in SD 1.5's file
          {"block_out_channels", {64, 64}},
          {"center_input_sample", false},
          {"cross_attention_dim", 64},
          {"down_block_types", {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D"}},
          {"up_block_types", {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D"}},
          {"downsample_padding", 1},
          {"flip_sin_to_cos", true},
          {"freq_shift", 0},
          {"in_channels", 4},
          {"out_channels", 4},
          {"layers_per_block", 1},
          {"mid_block_scale_factor", 1},
          {"norm_eps", 1e-5},
          {"norm_num_groups", 16},
          {"sample_size", 4}};
}

Json text_config(const Tokenizer& tokenizer) {
  return {{"architectures", {"CLIPTextModel"}},
          {"model_type", "clip_text_model"},
          {"vocab_size", tokenizer.size()},
          {"hidden_size", 64},
          {"intermediate_size", 128},
          {"projection_dim", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"max_position_embeddings", kPromptLength},
          {"hidden_act", "quick_gelu"},
          {"layer_norm_eps", 1e-5},
          {"bos_token_id", tokenizer.sot()},
          {"eos_token_id", tokenizer.eot()},
          {"pad_token_id", tokenizer.pad()},
          {"torch_dtype", "float32"}};
}

Json vision_config() {
  return {{"architectures", {"CLIPVisionModelWithProjection"}},
          {"model_type", "clip_vision_model"},
          {"hidden_size", 64},
          {"intermediate_size", 128},
          {"projection_dim", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_channels", 3},
          {"image_size", printed_side},
          {"patch_size", 2},
          {"hidden_act", "quick_gelu"},
          {"layer_norm_eps", 1e-5},
          {"torch_dtype", "float32"}};
}

Json scheduler_config() {
  return {{"_class_name", "DDIMScheduler"},
          {"beta_start", 0.00085},
          {"beta_end", 0.012},
          {"beta_schedule", "scaled_linear"},
          {"num_train_timesteps", 1000},
          {"prediction_type", "epsilon"},
          {"clip_sample", false},
          {"set_alpha_to_one", false},
          {"steps_offset", 1},
          {"timestep_spacing", "leading"},
          {"trained_betas", nullptr}};
}

Json preprocessor_config() {
  return {{"image_processor_type", "CLIPImageProcessor"},
          {"do_resize", true},
          {"do_center_crop", true},
          {"do_rescale", true},
          {"do_normalize", true},
          {"do_convert_rgb", true},
          {"resample", 3},
          {"size", {{"shortest_edge", printed_side}}},
          {"crop_size", {{"height", printed_side}, {"width", printed_side}}},
          {"rescale_factor", 1.0 / 255},
          {"image_mean", {0.48145466, 0.4578275, 0.40821073}},
          {"image_std", {0.26862954, 0.26130258, 0.27577711}}};
}

Json model_index() {
  return {{"_class_name", "StableDiffusionPipeline"},
          {"feature_extractor", {"transformers", "CLIPImageProcessor"}},
          {"image_encoder", {"transformers", "CLIPVisionModelWithProjection"}},
          {"requires_safety_checker", false},
          {"safety_checker", {nullptr, nullptr}},
          {"scheduler", {"diffusers", "DDIMScheduler"}},
          {"text_encoder", {"transformers", "CLIPTextModel"}},
          {"tokenizer", {"transformers", "CLIPTokenizer"}},
          {"unet", {"diffusers", "UNet2DConditionModel"}},
          {"vae", {"diffusers", "AutoencoderKL"}}};
}

}  // namespace realfake::base
