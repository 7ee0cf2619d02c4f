#pragma once
// Losses: each forward writes a scalar (1) in T, each backward scales by the host number `dloss`.
#include "kernels/ops.h"

namespace realfake {

// loss = (1/N) sum_n w_n (1/P) |a_n - b_n|^2,  a, b (N,...), P elements per sample, w (N) or
// undefined (1). Real-Fake L_dm (paper.md 1.2) with w = min-SNR weights; plain MSE without.
void weighted_mse_forward(Exec&, Out loss, In a, In b, In w);
void weighted_mse_backward(Exec&, GradOut da, In a, In b, In w, double dloss);

// loss = (1/P) |sum_n w_n (a_n - b_n)|^2: the published matching term (sum over the batch).
// diff (...) of one sample's shape: sum_n w_n (a_n - b_n), written by forward, read by backward.
void matching_sum_forward(Exec&, Out loss, Out diff, In a, In b, In w);
void matching_sum_backward(Exec&, GradOut da, In diff, In w, double dloss);

// Unbiased MMD^2 between samples a (N,...) and b (N,...), five RBF kernels exp(-d^2/(2 f s^2)), f
// in {1/4,1/2,1,2,4}, s^2 the mean of d^2 over pairs i<j of all 2N, constant in the gradient; cross
// term over all N^2 pairs. DESIGN 12.  requires N >= 2.  dist (2N,2N) = squared distances, written
// by forward, read by backward.
void mmd_rbf_forward(Exec&, Out loss, Out dist, In a, In b);
void mmd_rbf_backward(Exec&, GradOut da, In a, In b, In dist, double dloss);

// loss = mean_n -sum_k q_nk log softmax(x_n)_k,  q = (1-s) target + s/K.   logits x (N,K); target
// probabilities (N,K) in T (one-hot, mixed or soft).  probs (N,K) written by forward, read by
// backward.  torch CrossEntropyLoss(label_smoothing=s).
void cross_entropy_forward(Exec&, Out loss, Out probs, In logits, In target, double smoothing);
void cross_entropy_backward(Exec&, GradOut dlogits, In probs, In target, double smoothing,
                            double dloss);
// target (N,K) <- one-hot rows of labels i64 (N).
void one_hot(Exec&, Out target, In labels);

// loss = mean over elements of 0.5 (mu^2 + exp(logvar) - 1 - logvar).   moments (...,2C) = [mu |
// logvar], logvar clamped to
// [-30, 20] (gradient 0 outside).
void kl_forward(Exec&, Out loss, In moments);
void kl_backward(Exec&, GradOut dmoments, In moments, double dloss);

}  // namespace realfake
