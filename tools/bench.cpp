// `bench`: how long ops and whole networks take here, with random weights, so that no files are
// needed.
#include "tools/bench.h"

#include <omp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "tools/commands.h"
#include "tools/flop_counter.h"

namespace realfake {
namespace bench {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Of ascending values, between neighbours in proportion.
double quantile(const std::vector<double>& v, double q) {
  const double at = q * static_cast<double>(v.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, v.size() - 1);
  return v[low] + (at - static_cast<double>(low)) * (v[high] - v[low]);
}

}  // namespace

double Times::median() const {
  return quantile(seconds, 0.5);
}

double Times::spread() const {
  return (quantile(seconds, 0.9) - quantile(seconds, 0.1)) / median();
}

Times measure(Exec& exec, int64_t runs, int64_t warm_up, const std::function<void()>& call) {
  const auto sample = [&](int64_t calls) {
    return seconds_of([&] {
             for (int64_t i = 0; i < calls; ++i) call();
             exec.synchronize();
           }) /
           static_cast<double>(calls);
  };
  double warm = 0, one = INFINITY;
  for (int64_t i = 0; i < warm_up || (warm < 0.1 && i < 1000); ++i) {
    const double seconds = sample(1);
    warm += seconds;
    one = std::min(one, seconds);  // the least disturbed
  }
  const auto calls = static_cast<int64_t>(std::clamp(1e-3 / std::max(one, 1e-9), 1.0, 1000.0));
  if (runs == 0)
    runs = static_cast<int64_t>(
        std::clamp(0.4 / (std::max(one, 1e-9) * static_cast<double>(calls)), 5.0, 50.0));
  Times times;
  for (int64_t i = 0; i < runs; ++i) times.seconds.push_back(sample(calls));
  std::sort(times.seconds.begin(), times.seconds.end());
  return times;
}

void check_finite(Exec& exec, const std::string& what, const Tensor& x) {
  const Tensor found = exec.empty({2}, DType::i64);
  count_nonfinite(exec, found, x);
  const std::vector<int64_t> v = exec.to_vector<int64_t>(found);
  if (v[0])
    throw NumericError(concat(what, ": ", v[0], " of ", x.numel(),
                              " elements are not finite, the first at ", v[1]));
}

Tensor random_tensor(Exec& exec, const Shape& shape, uint64_t seed) {
  const Tensor x = exec.empty(shape);
  random_normal(exec, x, seed, Stream::user, 0);
  return x;
}

namespace {

// Mebibytes of this process at their peak.
double peak_rss_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

double load_average() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

void warn_of_load(double load) {
  const double cores = static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
  if (load > 0.5 * cores)
    std::fprintf(stderr, "warning: load average %.1f on %.0f cores: others are at work here\n",
                 load, cores);
}

std::string time_text(double seconds) {
  char text[32];
  if (seconds < 1e-3)
    std::snprintf(text, sizeof text, "%.1f us", seconds * 1e6);
  else if (seconds < 1)
    std::snprintf(text, sizeof text, "%.2f ms", seconds * 1e3);
  else
    std::snprintf(text, sizeof text, "%.3f s", seconds);
  return text;
}

struct Bench {
  CommonOptions common;
  std::string op, shape, network, preset = "tiny", dtype = "f32";
  int64_t batch = 0, size = 0, runs = 0;
  std::filesystem::path json, compare;

  void declare(Options& o) {
    o.text("op", &op, "time this op, or all; an unknown name lists them");
    o.text("shape", &shape,
           "the op's own letters, e.g. 2x64x64x320x32; as a rule shapes of SD 1.5");
    o.text("network", &network, "time one step of this network", network_names());
    o.text("preset", &preset, "size of the network; ResNets have but one", {"tiny", "sd15"});
    o.integer("batch", &batch, 0, 65536, "samples of a step; 0: 2 (one image with guidance)");
    o.integer("size", &size, 0, 16384,
              "side: latents for unet, vae-* and lora-step, pixels for image-encoder and resnet*; "
              "0: the preset's");
    o.text("dtype", &dtype, "f32");
    o.integer("runs", &runs, 0, 100000,
              "timed runs; 0: 5 of a network, as many as 0.4 s hold of an op");
    o.path("json", &json, "file to write the figures to");
    o.path("compare", &compare, "file written by --json before: prints new / old");
    common.declare(o, false);
  }

  int run(const Options& given) const {
    if (op.empty() == network.empty())
      throw UsageError("expected one of --op NAME (or --op all) and --network NAME");
    if (dtype != "f32")
      throw UsageError("--dtype is '" + dtype + "', expected f32, which is what is built so far");
    const auto refuse = [&](const char* with, std::initializer_list<const char*> others) {
      for (const char* name : others)
        if (given.given(name))
          throw UsageError(concat("--", name, " has no meaning with --", with));
    };
    if (!op.empty()) refuse("op", {"preset", "batch", "size"});
    if (!network.empty()) refuse("network", {"shape"});
    const Json old = compare.empty() ? Json() : read_json(compare);
    const Json now = op.empty() ? bench_network(old) : bench_ops(old);
    if (!json.empty()) write_json_atomic(json, now);
    return 0;
  }

  Json header(double load) const {
    return {{"schema", 1},
            {"device", common.device},
            {"dtype", dtype},
            {"threads", omp_get_max_threads()},
            {"load_average", load}};
  }

  // A number of a file that `--json` wrote.
  double old_number(const Json& old, const char* key) const {
    const double v = JsonReader(old, compare.string()).number(key);
    if (!(v > 0)) throw InputError(concat(compare.string(), ": '", key, "': found ", v));
    return v;
  }

  // ---- networks

  Json bench_network(const Json& old) const {
    Exec exec = common.open();
    const double load = load_average();
    warn_of_load(load);
    const int64_t samples = batch ? batch : 2;
    const Network net = make_network(exec, network, preset, samples, size);
    double flops = 0;
    {
      const FlopCounter counter(exec);
      check_finite(exec, network, net.step());
      flops = counter.flops();
    }
    Tensor last;
    const Times t = measure(exec, runs ? runs : 5, exec.device() == Device::cuda ? 10 : 1, [&] {
      last = Tensor();  // before the step, so that its memory serves again
      last = net.step();
    });
    check_finite(exec, network, last);
    const bool resnet = network.starts_with("resnet");
    Json out = {{"network", network}, {"batch", samples}, {"size", net.size}};
    if (!resnet) out["preset"] = preset;
    out.update(header(load));
    out.update({{"median_s", t.median()},
                {"min_s", t.min()},
                {"spread", t.spread()},
                {"runs", t.seconds.size()},
                {"peak_rss_mib", peak_rss_mib()},
                {"peak_pool_mib", static_cast<double>(exec.peak_bytes()) / (1 << 20)},
                {"gflop", flops / 1e9},
                {"gflops", flops / t.median() / 1e9}});
    std::printf(
        "%-14s %s: median %s, min %s of %zu, %.1f GFLOP/s (%.3g GFLOP a step), peak %.0f MiB\n",
        network.c_str(), setting(net, samples).c_str(), time_text(t.median()).c_str(),
        time_text(t.min()).c_str(), t.seconds.size(), flops / t.median() / 1e9, flops / 1e9,
        peak_rss_mib());
    if (!old.is_null()) {
      for (const char* key : {"network", "preset", "batch", "size", "device", "threads"})
        if (out.contains(key) && (!old.contains(key) || old[key] != out[key]))
          throw InputError(concat(compare.string(), ": '", key, "' is ",
                                  old.contains(key) ? old[key].dump() : "absent", ", here ",
                                  out[key].dump()));
      std::printf("new / old: %.3f of the median, %.3f of the minimum\n",
                  t.median() / old_number(old, "median_s"), t.min() / old_number(old, "min_s"));
    }
    return out;
  }

  // "sd15, batch 2, 64x64 latents, cpu, 2 threads"
  std::string setting(const Network& net, int64_t samples) const {
    const std::string side = std::to_string(net.size);
    return concat(network.starts_with("resnet") ? "" : preset + ", ", "batch ", samples, ", ",
                  net.size_unit == "tokens" ? side : side + "x" + side, " ", net.size_unit, ", ",
                  common.device, ", ", omp_get_max_threads(), " threads");
  }

  // ---- ops

  std::vector<const Op*> chosen() const {
    std::vector<const Op*> list;
    std::vector<std::string> names{"all"};
    for (const Op& o : ops()) {
      names.push_back(o.name);
      if (op == "all" || op == o.name) list.push_back(&o);
    }
    if (list.empty()) {
      const std::string near = nearest(op, names);
      std::string message = "--op is '" + printable(op) + "'";
      if (!near.empty()) message += "; did you mean '" + near + "'?";
      message += "\nexpected one of";
      for (const std::string& n : names) message += " " + n;
      throw UsageError(message);
    }
    if (op == "all" && !shape.empty()) throw UsageError("--shape needs the --op that it is of");
    return list;
  }

  Json bench_ops(const Json& old) const {
    const std::vector<const Op*> list = chosen();
    std::vector<Numbers> shapes;
    if (!shape.empty()) shapes.push_back(parse_shape(*list[0], shape));
    if (parse_device(common.device) == Device::emulated && shapes.empty())
      throw UsageError(
          "on --device emulated an op needs a small --shape: the shapes of SD 1.5 "
          "take far too long there");
    if (!old.is_null() && (!old.is_object() || !old.contains("ops") || !old["ops"].is_array()))
      throw InputError(
          concat(compare.string(), ": 'ops': found none, expected a file of bench --op"));
    Exec exec = common.open();
    const double load = load_average();
    warn_of_load(load);
    const Roof roof = measure_roof(exec);
    std::printf(
        "roof: copy %.1f GB/s, product %.0f GFLOP/s (%s, f32, %d threads); "
        "caches stay warm between calls\n",
        roof.copy_gb_s, roof.gemm_gflop_s, common.device.c_str(), omp_get_max_threads());
    Json out = header(load);
    out["roof"] = {{"copy_gb_s", roof.copy_gb_s}, {"gemm_gflop_s", roof.gemm_gflop_s}};
    if (!old.is_null()) print_old_roof(old, roof);
    std::printf("%-25s%-22s%11s%11s%8s%9s%10s%8s%s\n", "op", "shape", "median", "min", "spread",
                "GB/s", "GFLOP/s", "roof", old.is_null() ? "" : " new/old");
    out["ops"] = Json::array();
    for (const Op* o : list)
      for (const Numbers& s : shapes.empty() ? o->shapes : shapes)
        out["ops"].push_back(bench_op(exec, *o, s, roof, old));
    return out;
  }

  void print_old_roof(const Json& old, const Roof& roof) const {
    if (!old.contains("roof") || !old["roof"].is_object()) return;
    std::printf("roof new / old: copy %.2f, product %.2f\n",
                roof.copy_gb_s / old_number(old["roof"], "copy_gb_s"),
                roof.gemm_gflop_s / old_number(old["roof"], "gemm_gflop_s"));
  }

  Json bench_op(Exec& exec, const Op& o, const Numbers& numbers, const Roof& roof,
                const Json& old) const {
    const std::string text = shape_text(numbers);
    Work work;
    try {
      work = o.make(exec, numbers);
      work.run();
    } catch (const ContractError& e) {
      throw UsageError(concat("--shape ", text, " does not suit ", o.name, ": ", e.what()));
    }
    const Times t = measure(exec, runs, exec.device() == Device::cuda ? 20 : 2, work.run);
    for (const Tensor& y : work.outputs) check_finite(exec, o.name + " " + text, y);
    const double median = t.median(), gb_s = work.cost.bytes / median / 1e9,
                 gflop_s = work.cost.flops / median / 1e9,
                 percent = 100 * roof.seconds(work.cost) / median;
    std::printf("%-25s%-22s%11s%11s%7.1f%%%9.1f%10.1f%7.0f%%", o.name.c_str(), text.c_str(),
                time_text(median).c_str(), time_text(t.min()).c_str(), 100 * t.spread(), gb_s,
                gflop_s, percent);
    if (!old.is_null())
      for (const Json& entry : old["ops"])
        if (entry.is_object() && entry.value("op", Json()) == o.name &&
            entry.value("shape", Json()) == text)
          std::printf("%8.2f", median / old_number(entry, "median_s"));
    std::printf("\n");
    std::fflush(stdout);
    return {{"op", o.name},     {"shape", text},        {"median_s", median},
            {"min_s", t.min()}, {"spread", t.spread()}, {"runs", t.seconds.size()},
            {"gb_s", gb_s},     {"gflop_s", gflop_s},   {"percent_of_roof", percent}};
  }
};

}  // namespace
}  // namespace bench

Command make_bench_command() {
  const auto self = std::make_shared<bench::Bench>();
  return {
      "bench", "time ops and whole networks on this machine",
      "realfake bench --network unet --preset sd15 --batch 2 --size 64 --runs 5 --json out.json",
      [self](Options& o) { self->declare(o); }, [self](const Options& o) { return self->run(o); }};
}

}  // namespace realfake
