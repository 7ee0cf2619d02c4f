// Broken contracts: one message that names the op and what was wrong, before anything is written.
#include <gtest/gtest.h>

#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

struct Misuse {
  std::string name;
  std::function<void(Exec&)> call;
  std::vector<std::string> words;  // all in the message
};

void PrintTo(const Misuse& misuse, std::ostream* os) {
  *os << misuse.name;
}

class Contract : public ::testing::TestWithParam<Misuse> {};

TEST_P(Contract, IsRefusedByName) {
  for (const Device device : {Device::cpu, Device::emulated}) {
    Exec& ex = exec_of(device);
    try {
      GetParam().call(ex);
      ADD_FAILURE() << name_of(device) << ": was not refused";
    } catch (const ContractError& e) {
      for (const std::string& word : GetParam().words)
        EXPECT_NE(std::string(e.what()).find(word), std::string::npos)
            << "'" << word << "' is not in: " << e.what();
    }
  }
}

Tensor t(Exec& ex, const Shape& s, DType dtype = DType::f32) {
  return ex.zeros(s, dtype);
}
Tensor ids(Exec& ex, const std::vector<int64_t>& v) {
  return ex.from_vector(v, {static_cast<int64_t>(v.size())});
}
GradOut write(const Tensor& x) {
  return {x, Grad::overwrite};
}

std::vector<Misuse> misuses() {
  return {
      {"group_norm_groups",
       [](Exec& ex) {
         group_norm_forward(ex, t(ex, {2, 3, 7}), t(ex, {2, 2}), t(ex, {2, 2}), t(ex, {2, 3, 7}),
                            t(ex, {7}), t(ex, {7}), 2, 1e-5, false);
       },
       {"[group_norm_forward]", "7", "2"}},
      {"group_norm_gamma",
       [](Exec& ex) {
         group_norm_forward(ex, t(ex, {2, 3, 6}), t(ex, {2, 2}), t(ex, {2, 2}), t(ex, {2, 3, 6}),
                            t(ex, {5}), t(ex, {6}), 2, 1e-5, false);
       },
       {"[group_norm_forward]", "[6]", "[5]"}},
      {"layer_norm_output",
       [](Exec& ex) {
         layer_norm_forward(ex, t(ex, {2, 5}), t(ex, {2}), t(ex, {2}), t(ex, {2, 6}), t(ex, {6}),
                            t(ex, {6}), 1e-5);
       },
       {"[layer_norm_forward]", "[2,6]", "[2,5]"}},
      {"layer_norm_backward",
       [](Exec& ex) {
         layer_norm_backward(ex, write(t(ex, {2, 6})), {}, {}, t(ex, {3, 6}), t(ex, {2, 6}),
                             t(ex, {2}), t(ex, {2}), t(ex, {6}));
       },
       {"[layer_norm_backward]", "[3,6]", "[2,6]"}},
      {"batch_norm_running",
       [](Exec& ex) {
         batch_norm_forward(ex, t(ex, {4, 6}), t(ex, {6}), t(ex, {6}), t(ex, {4}), t(ex, {6}),
                            t(ex, {4, 6}), t(ex, {6}), t(ex, {6}), kNone, 1e-5, 0.1, false);
       },
       {"[batch_norm_forward]", "[6]", "[4]"}},
      {"l2_normalize_norm",
       [](Exec& ex) {
         l2_normalize_forward(ex, t(ex, {4, 6}), t(ex, {6}), t(ex, {4, 6}));
       },
       {"[l2_normalize_forward]", "[6]"}},
      {"activation_shape",
       [](Exec& ex) {
         activation_forward(ex, t(ex, {4, 6}), t(ex, {6, 4}), Activation::gelu);
       },
       {"[activation_forward]", "[4,6]", "[6,4]"}},
      {"geglu_width",
       [](Exec& ex) {
         geglu_forward(ex, t(ex, {4, 6}), t(ex, {4, 10}));
       },
       {"[geglu_forward]", "[4,10]"}},
      {"softmax_dtype",
       [](Exec& ex) {
         softmax_forward(ex, t(ex, {4, 6}), t(ex, {4, 6}, DType::i32));
       },
       {"[softmax_forward]", "i32"}},
      {"copy_dtype",
       [](Exec& ex) { copy(ex, t(ex, {4}), t(ex, {4}, DType::u8)); },
       {"[copy]", "u8"}},
      {"add_shape",
       [](Exec& ex) {
         add(ex, t(ex, {4, 6}), t(ex, {4, 6}), t(ex, {4, 5}));
       },
       {"[add]", "[4,6]", "[4,5]"}},
      {"add_broadcast_v",
       [](Exec& ex) {
         add_broadcast(ex, t(ex, {2, 4, 6}), t(ex, {2, 4, 6}), t(ex, {3, 6}));
       },
       {"[add_broadcast]", "[2,6]", "[3,6]"}},
      {"scale_samples_s",
       [](Exec& ex) {
         scale_samples(ex, t(ex, {2, 4}), t(ex, {2, 4}), t(ex, {4}));
       },
       {"[scale_samples]", "[2]", "[4]"}},
      {"cast_to_integer",
       [](Exec& ex) { cast(ex, t(ex, {4}, DType::i32), t(ex, {4})); },
       {"[cast]", "i32"}},
      {"gemm_inner",
       [](Exec& ex) {
         gemm(ex, t(ex, {4, 5}), t(ex, {4, 6}), t(ex, {7, 5}));
       },
       {"[gemm]", "[6,5]", "[7,5]"}},
      {"gemm_batch",
       [](Exec& ex) {
         gemm(ex, t(ex, {2, 4, 5}), t(ex, {2, 4, 6}), t(ex, {3, 6, 5}));
       },
       {"[gemm]", "[3,6,5]"}},
      {"linear_inner",
       [](Exec& ex) {
         linear_forward(ex, t(ex, {4, 5}), t(ex, {4, 6}), t(ex, {5, 7}), kNone);
       },
       {"[linear", "[4,6]", "[5,7]"}},
      {"lora_rank",
       [](Exec& ex) {
         lora_linear_forward(ex, t(ex, {4, 5}), t(ex, {4, 2}), t(ex, {4, 6}), t(ex, {5, 6}), kNone,
                             t(ex, {2, 6}), t(ex, {5, 3}), 1);
       },
       {"[lora_linear", "[5,3]"}},
      {"attention_heads",
       [](Exec& ex) {
         attention_forward(ex, t(ex, {2, 4, 6}), t(ex, {2, 4, 4}), t(ex, {2, 4, 6}),
                           t(ex, {2, 4, 6}), t(ex, {2, 4, 6}), 4, 1, false);
       },
       {"[attention_forward]", "6", "4"}},
      {"attention_causal_lengths",
       [](Exec& ex) {
         attention_forward(ex, t(ex, {2, 4, 6}), t(ex, {2, 2, 4}), t(ex, {2, 4, 6}),
                           t(ex, {2, 5, 6}), t(ex, {2, 5, 6}), 2, 1, true);
       },
       {"[attention_forward]", "causal"}},
      {"conv_channels",
       [](Exec& ex) {
         conv2d_forward(ex, t(ex, {2, 5, 5, 4}), t(ex, {2, 5, 5, 3}), t(ex, {4, 3, 3, 4}), kNone,
                        ConvParams::same(3));
       },
       {"[conv2d_forward]", "[4,3,3,4]"}},
      {"conv_output",
       [](Exec& ex) {
         conv2d_forward(ex, t(ex, {2, 5, 4, 4}), t(ex, {2, 5, 5, 3}), t(ex, {4, 3, 3, 3}), kNone,
                        ConvParams::same(3));
       },
       {"[conv2d_forward]", "[2,5,4,4]", "[2,5,5,4]"}},
      {"conv_strided_rows",
       [](Exec& ex) {
         conv2d_forward(ex, t(ex, {2, 5, 5, 4}), t(ex, {2, 5, 5, 7}).columns(0, 3),
                        t(ex, {4, 3, 3, 3}), kNone, ConvParams::same(3));
       },
       {"[conv2d_forward]"}},
      {"global_pool",
       [](Exec& ex) {
         global_average_pool_forward(ex, t(ex, {2, 3}), t(ex, {2, 5, 5, 4}));
       },
       {"[global_average_pool_forward]", "[2,3]"}},
      {"max_pool_index",
       [](Exec& ex) {
         max_pool_forward(ex, t(ex, {2, 2, 2, 3}), t(ex, {2, 2, 2, 3}), t(ex, {2, 4, 4, 3}), 2, 2,
                          0);
       },
       {"[max_pool_forward]", "i32"}},
      {"upsample_channels",
       [](Exec& ex) {
         upsample_nearest_forward(ex, t(ex, {2, 4, 4, 3}), t(ex, {2, 2, 2, 5}));
       },
       {"[upsample_nearest_forward]", "[2,4,4,5]", "[2,4,4,3]"}},
      {"embedding_id",
       [](Exec& ex) {
         embedding_forward(ex, t(ex, {2, 3}), t(ex, {5, 3}), ids(ex, {1, 5}));
       },
       {"[embedding_forward]", "5"}},
      {"embedding_negative_id",
       [](Exec& ex) {
         embedding_forward(ex, t(ex, {2, 3}), t(ex, {5, 3}), ids(ex, {-1, 2}));
       },
       {"[embedding_forward]", "-1"}},
      {"timestep_odd",
       [](Exec& ex) {
         timestep_embedding(ex, t(ex, {2, 7}), ids(ex, {1, 2}), true, 0);
       },
       {"[timestep_embedding]", "7"}},
      {"gather_index",
       [](Exec& ex) {
         gather_tokens_forward(ex, t(ex, {2, 3}), t(ex, {2, 4, 3}), ids(ex, {0, 4}));
       },
       {"[gather_tokens_forward]", "4"}},
      {"mse_shapes",
       [](Exec& ex) {
         weighted_mse_forward(ex, t(ex, {1}), t(ex, {2, 5}), t(ex, {2, 4}), kNone);
       },
       {"[weighted_mse_forward]", "[2,5]", "[2,4]"}},
      {"mmd_one_sample",
       [](Exec& ex) {
         mmd_rbf_forward(ex, t(ex, {1}), t(ex, {2, 2}), t(ex, {1, 5}), t(ex, {1, 5}));
       },
       {"[mmd_rbf_forward]", "2"}},
      {"cross_entropy_target",
       [](Exec& ex) {
         cross_entropy_forward(ex, t(ex, {1}), t(ex, {2, 5}), t(ex, {2, 5}), t(ex, {2, 6}), 0);
       },
       {"[cross_entropy_forward]", "[2,5]", "[2,6]"}},
      {"one_hot_label",
       [](Exec& ex) {
         one_hot(ex, t(ex, {2, 3}), ids(ex, {0, 3}));
       },
       {"[one_hot]", "3"}},
      {"kl_odd",
       [](Exec& ex) {
         kl_forward(ex, t(ex, {1}), t(ex, {2, 5}));
       },
       {"[kl_forward]", "[2,5]"}},
      {"adamw_shapes",
       [](Exec& ex) {
         adamw_step(ex, {{t(ex, {5}), t(ex, {5}), t(ex, {4}), t(ex, {5}), true}}, {}, 1, 1);
       },
       {"[adamw_step]", "[5]", "[4]"}},
      {"sgd_shapes",
       [](Exec& ex) {
         sgd_step(ex, {{t(ex, {5}), t(ex, {6}), t(ex, {5}), true}}, {}, 1, 1);
       },
       {"[sgd_step]", "[5]", "[6]"}},
      {"combine_coefficients",
       [](Exec& ex) {
         combine_samples(ex, t(ex, {2, 5}), t(ex, {2, 5}), t(ex, {2, 5}), t(ex, {3}), t(ex, {2}));
       },
       {"[combine_samples]", "[2]", "[3]"}},
      {"guided_output",
       [](Exec& ex) {
         guided_step(ex, t(ex, {2, 5}), t(ex, {2, 5}), t(ex, {3, 5}), kNone, 7.5, 1, 1, 0);
       },
       {"[guided_step]", "[4,5]", "[3,5]"}},
      {"random_dtype",
       [](Exec& ex) {
         random_normal(ex, t(ex, {2, 5}, DType::i64), 1, Stream::user, 0);
       },
       {"[random_normal]", "i64"}},
      {"normalize_mean",
       [](Exec& ex) {
         normalize_u8(ex, t(ex, {2, 4, 4, 3}), t(ex, {2, 4, 4, 3}, DType::u8), t(ex, {1}),
                      t(ex, {3}));
       },
       {"[normalize_u8]", "[3]", "[1]"}},
      {"affine_maps",
       [](Exec& ex) {
         affine_sample(ex, t(ex, {2, 4, 4, 3}), t(ex, {2, 4, 4, 3}), t(ex, {2, 5}), 0);
       },
       {"[affine_sample]", "[2,6]", "[2,5]"}},
      {"pairwise_width",
       [](Exec& ex) {
         pairwise_squared(ex, t(ex, {2, 3}), t(ex, {2, 5}), t(ex, {3, 6}));
       },
       {"[pairwise_squared]", "[3,6]"}},
      {"column_sum_width",
       [](Exec& ex) {
         column_sum(ex, write(t(ex, {4})), t(ex, {3, 5}));
       },
       {"[column_sum]", "[5]", "[4]"}},
      {"argmax_rows_shape",
       [](Exec& ex) {
         argmax_rows(ex, t(ex, {4}, DType::i64), t(ex, {3, 5}));
       },
       {"[argmax_rows]", "[4]"}},
      {"undefined", [](Exec& ex) { scale(ex, t(ex, {4}), kNone, 2); }, {"[scale]", "undefined"}},
      {"other_device",
       [](Exec& ex) {
         const Device other = ex.device() == Device::cpu ? Device::emulated : Device::cpu;
         scale(ex, t(ex, {4}), t(exec_of(other), {4}), 2);
       },
       {"[scale]", "cpu", "emulated"}},
  };
}

INSTANTIATE_TEST_SUITE_P(All, Contract, ::testing::ValuesIn(misuses()),
                         [](const ::testing::TestParamInfo<Misuse>& info) {
                           return info.param.name;
                         });

// A gradient that is not wanted needs no tensor and writes nothing.
TEST(GradientModes, NothingWantedIsAllowed) {
  for (const Device device : {Device::cpu, Device::emulated}) {
    Exec& ex = exec_of(device);
    const Tensor x = ex.full({3, 4}, 0.5), w = ex.full({5, 4}, 0.5), dy = ex.full({3, 5}, 1);
    linear_backward(ex, {}, {}, {}, dy, x, w);
    activation_backward(ex, {}, x, x, Activation::silu);
    softmax_backward(ex, {}, x, x);
    layer_norm_backward(ex, {}, {}, {}, x, x, ex.zeros({3}), ex.zeros({3}), ex.zeros({4}));
    accumulate_into(ex, {}, x);
    EXPECT_EQ(ex.to_vector<float>(x), std::vector<float>(12, 0.5f));
  }
}

// cpu computes in f64 as well; the other executors say that they do not.
TEST(GradientModes, F64IsForTheCpuAlone) {
  Exec& ex = exec_of(Device::emulated);
  const Tensor x = ex.zeros({4}, DType::f64);
  EXPECT_THROW(activation_forward(ex, x, x, Activation::silu), ContractError);
}

}  // namespace

}  // namespace realfake::testing
