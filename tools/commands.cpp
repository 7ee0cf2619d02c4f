#include "tools/commands.h"

namespace realfake {

std::vector<Command> all_commands() {
  return {
      make_demo_command(),
      make_pretrain_command(),
      make_embed_command(),
      make_finetune_command(),
      make_generate_command(),
      make_train_command(),
      make_evaluate_command(),
      make_report_command(),
      make_inspect_command(),
      make_verify_forward_command(),
      make_verify_gradient_command(),
      make_verify_sampler_command(),
      make_verify_tokenize_command(),
      make_bench_command(),
  };
}

}  // namespace realfake
