#include "tools/svg_plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kernels/base/error.h"

namespace realfake {
namespace {

// User units; the page scales the drawing to its column.
constexpr double width = 460, height = 270, left = 52, right = 12, top = 10, bottom = 42;
constexpr size_t max_points = 400;
constexpr size_t palette = 6;

struct Axes {
  double x0, x1, y0, y1;
  double x(double v) const { return left + (v - x0) / (x1 - x0) * (width - left - right); }
  double y(double v) const {
    // Far outliers must not become numbers that a renderer refuses; the drawing is clipped anyway.
    return std::clamp(height - bottom - (v - y0) / (y1 - y0) * (height - top - bottom), -height,
                      2 * height);
  }
};

// Of each run of neighbours the lowest and the highest, in their order: keeps the look of the
// noise.
std::vector<size_t> thinned(const std::vector<double>& y) {
  std::vector<size_t> kept;
  const size_t n = y.size();
  const size_t buckets = std::min(n, max_points / 2);
  for (size_t b = 0; b < buckets; ++b) {
    const size_t first = b * n / buckets, last = (b + 1) * n / buckets;
    size_t low = first, high = first;
    for (size_t i = first; i < last; ++i) {
      if (y[i] < y[low]) low = i;
      if (y[i] > y[high]) high = i;
    }
    kept.push_back(std::min(low, high));
    if (low != high) kept.push_back(std::max(low, high));
  }
  if (n > 0 && kept.back() != n - 1) kept.push_back(n - 1);
  return kept;
}

std::string path_of(const Axes& axes, const std::vector<double>& x, const std::vector<double>& y) {
  std::string path;
  for (const size_t i : thinned(y)) {
    path += concat(path.empty() ? "M" : "L", fixed(axes.x(x[i]), 1), " ", fixed(axes.y(y[i]), 1));
  }
  return path;
}

double quantile(std::vector<double> values, double q) {
  const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

std::string tick_text(double value, double step) {
  if (std::abs(value) >= 1e6 || step < 1e-4) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", std::abs(value) < step / 1e3 ? 0.0 : value);
    return text;
  }
  const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 4);
  return fixed(std::abs(value) < step / 1e3 ? 0.0 : value, digits);
}

void write_axes(Html& html, const Axes& axes, const std::string& x_label) {
  const std::vector<double> xs = round_ticks(axes.x0, axes.x1, 5);
  const std::vector<double> ys = round_ticks(axes.y0, axes.y1, 5);
  const double x_step = xs.size() > 1 ? xs[1] - xs[0] : 1,
               y_step = ys.size() > 1 ? ys[1] - ys[0] : 1;
  for (const double v : ys) {
    const std::string at = fixed(axes.y(v), 1);
    html.path("line", concat("M", left, " ", at, "H", width - right));
    html.element("text", {{"x", fixed(left - 6, 1)}, {"y", at}, {"dy", "0.35em"}, {"class", "end"}},
                 tick_text(v, y_step));
  }
  for (const double v : xs) {
    const std::string at = fixed(axes.x(v), 1);
    html.path("tick", concat("M", at, " ", height - bottom, "v5"));
    html.element("text", {{"x", at}, {"y", fixed(height - bottom + 19, 1)}, {"class", "mid"}},
                 tick_text(v, x_step));
  }
  html.path("axis", concat("M", left, " ", top, "V", height - bottom, "H", width - right));
  html.element(
      "text",
      {{"x", fixed((left + width - right) / 2, 1)}, {"y", fixed(height - 4, 1)}, {"class", "mid"}},
      x_label);
}

// The axis holds the running means whole and all but the rarest of the raw points.
Axes axes_of(const std::vector<const Curve*>& curves,
             const std::vector<std::vector<double>>& means) {
  Axes axes{curves[0]->x.front(), curves[0]->x.front(), means[0][0], means[0][0]};
  for (size_t i = 0; i < curves.size(); ++i) {
    const auto [low, high] = std::minmax_element(means[i].begin(), means[i].end());
    axes.x0 = std::min(axes.x0, curves[i]->x.front());
    axes.x1 = std::max(axes.x1, curves[i]->x.back());
    axes.y0 = std::min({axes.y0, *low, quantile(curves[i]->y, 0.01)});
    axes.y1 = std::max({axes.y1, *high, quantile(curves[i]->y, 0.99)});
  }
  if (axes.x0 > 0 && axes.x0 < 0.05 * axes.x1) axes.x0 = 0;
  if (axes.x1 <= axes.x0) {
    axes.x0 -= 1;
    axes.x1 += 1;
  }
  const double margin =
      axes.y1 > axes.y0 ? 0.04 * (axes.y1 - axes.y0) : std::max(1e-6, 0.1 * std::abs(axes.y1));
  // Zero is worth showing when it is near.
  axes.y0 = axes.y0 >= 0 && axes.y0 < 0.35 * axes.y1 ? 0 : axes.y0 - margin;
  axes.y1 += margin;
  return axes;
}

}  // namespace

std::vector<double> round_ticks(double low, double high, int wanted) {
  std::vector<double> ticks;
  const double range = high - low;
  if (!(range > 0) || !std::isfinite(range) || wanted < 1) return ticks;
  const double rough = range / wanted, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double part = rough / power;
  const double step = power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
  if (!(step > 0) || std::abs(low / step) > 1e12) return ticks;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) {
    ticks.push_back(k * step);
  }
  return ticks;
}

std::vector<double> running_mean(const std::vector<double>& values, double span) {
  // Sums from the left and from the right, so that the mean does not lag behind a slope.
  const size_t n = values.size();
  const double keep = std::exp(-1 / std::max(span, 1e-3));
  std::vector<double> out(n), weights(n);
  double sum = 0, weight = 0;
  for (size_t i = 0; i < n; ++i) {
    out[i] = sum = keep * sum + values[i];
    weights[i] = weight = keep * weight + 1;
  }
  sum = weight = 0;
  for (size_t i = n; i-- > 0;) {
    out[i] = (out[i] + sum) / (weights[i] + weight);
    sum = keep * (sum + values[i]);
    weight = keep * (weight + 1);
  }
  return out;
}

void write_curves(Html& html, const std::string& title, const std::string& x_label,
                  const std::vector<Curve>& all) {
  std::vector<const Curve*> curves;
  std::vector<std::vector<double>> means;
  for (const Curve& curve : all) {
    if (curve.x.empty()) continue;
    curves.push_back(&curve);
    means.push_back(running_mean(curve.y, std::max(1.0, static_cast<double>(curve.y.size()) / 40)));
  }
  if (curves.empty()) return;
  const Axes axes = axes_of(curves, means);
  size_t outside = 0;
  for (const Curve* curve : curves) {
    outside += static_cast<size_t>(std::count_if(
        curve->y.begin(), curve->y.end(), [&](double v) { return v < axes.y0 || v > axes.y1; }));
  }

  const Html::Scope figure = html.in("figure", {{"class", "plot"}});
  html.element("h3", title);
  {
    std::string spoken = title + ": ";
    for (size_t i = 0; i < curves.size(); ++i) {
      spoken += concat(i ? "; " : "", curves[i]->name, " from ", fixed(means[i].front(), 3), " to ",
                       fixed(means[i].back(), 3));
    }
    const Html::Scope svg = html.in(
        "svg",
        {{"viewBox", concat("0 0 ", width, " ", height)}, {"role", "img"}, {"aria-label", spoken}});
    write_axes(html, axes, x_label);
    // A nested drawing area clips without an id, so that several plots can share a page.
    const std::string w = fixed(width - left - right, 1), h = fixed(height - top - bottom, 1);
    const Html::Scope area = html.in("svg", {{"x", fixed(left, 1)},
                                             {"y", fixed(top, 1)},
                                             {"width", w},
                                             {"height", h},
                                             {"viewBox", concat(left, " ", top, " ", w, " ", h)}});
    for (size_t i = 0; i < curves.size(); ++i) {
      html.path(concat("raw s", i % palette).c_str(), path_of(axes, curves[i]->x, curves[i]->y));
    }
    for (size_t i = 0; i < curves.size(); ++i) {
      html.path(concat("mean s", i % palette).c_str(), path_of(axes, curves[i]->x, means[i]));
    }
  }
  const Html::Scope legend = html.in("figcaption");
  for (size_t i = 0; i < curves.size(); ++i) {
    const Html::Scope entry = html.in("span", {{"class", "key"}});
    {
      const Html::Scope svg =
          html.in("svg", {{"viewBox", "0 0 26 8"}, {"class", "swatch"}, {"aria-hidden", "true"}});
      html.path(concat("mean s", i % palette).c_str(), "M1 4H25");
    }
    html.text(concat(curves[i]->name, ": ", fixed(means[i].back(), 3), " at the end"));
  }
  html.element("span", {{"class", "fine"}},
               concat("Thin: as logged; thick: running mean.",
                      outside ? concat(" ", outside, " points lie outside the axis.") : ""));
}

}  // namespace realfake
