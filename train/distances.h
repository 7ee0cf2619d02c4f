#pragma once
// How far a synthetic set is from a real one: Frechet distance in classifier features, label
// fidelity, and how near each synthetic image comes to a real one.
#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/classifier.h"

namespace realfake {

// Heusel et al. 2017, eq. 6: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)); features (N,F) and
// (M,F) row-major.
double frechet_distance(const std::vector<float>& a, const std::vector<float>& b, int64_t width);
// Trace of the covariance of features (N,F): the scale that a Frechet distance is compared with.
double total_variance(const std::vector<float>& features, int64_t width);

struct SetDistance {
  double frechet = 0;   // relative: divided by the total variance of the real features
  double fidelity = 0;  // percent of the synthetic images that `judge` gives their own label
};
SetDistance set_distance(Exec& exec, const ResNet& judge, const std::string& normalization,
                         const ImageSet& real, const ImageSet& synthetic);

// Nearest neighbours by Euclidean distance of pixels in [0,1]. `source[i]`: the real image that
// synthetic i started from.
struct CopyCheck {
  double own_source_median = 0, nearest_other_median = 0;
  double own_is_nearest_percent = 0;
  double real_real_median = 0;  // each real image to its nearest other real one
};
CopyCheck copy_check(const ImageSet& real, const ImageSet& synthetic,
                     const std::vector<int64_t>& source);

// Eigenvalues (ascending) and vectors (columns) of a symmetric matrix (n,n), by Jacobi rotations.
void symmetric_eigen(std::vector<double> a, int64_t n, std::vector<double>& values,
                     std::vector<double>& vectors);

}  // namespace realfake
