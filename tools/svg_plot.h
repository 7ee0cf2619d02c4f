#pragma once
// Curves as inline SVG: what was logged as a thin line, its running mean as a thick one.
#include <string>
#include <vector>

#include "tools/html.h"

namespace realfake {

struct Curve {
  std::string name;
  std::vector<double> x, y;  // x ascending
};

// A figure with axes and a legend; curves without points are left out. Nothing when none has
// points.
void write_curves(Html& html, const std::string& title, const std::string& x_label,
                  const std::vector<Curve>& curves);

// Round values (1, 2 or 5 times a power of ten) within [low, high], about `wanted` of them.
std::vector<double> round_ticks(double low, double high, int wanted);

// Mean over the neighbours of each value, whose weights fall by e over `span` points to both sides.
std::vector<double> running_mean(const std::vector<double>& values, double span);

}  // namespace realfake
