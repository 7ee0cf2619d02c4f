#pragma once
// Every command of the program; each lives in its own file and is made by a function of its name.
#include <vector>

#include "tools/cli.h"

namespace realfake {

std::vector<Command> all_commands();

Command make_demo_command();
Command make_pretrain_command();
Command make_embed_command();
Command make_finetune_command();
Command make_generate_command();
Command make_train_command();
Command make_evaluate_command();
Command make_report_command();
Command make_inspect_command();
Command make_verify_forward_command();
Command make_verify_gradient_command();
Command make_verify_sampler_command();
Command make_verify_tokenize_command();
Command make_bench_command();

}  // namespace realfake
