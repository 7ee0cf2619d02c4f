#include "train/generate.h"

#include <algorithm>
#include <cmath>

#include "data/manifest.h"
#include "kernels/base/sha256.h"
#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "kernels/image.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "model/lora.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

// An earlier run's pictures are kept only when this run would make the same: each line says how its
// picture was made.
void require_same_run(const fs::path& folder, const Json& now) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("manifest", 0) != 0 || entry.path().extension() != ".jsonl") continue;
    const std::vector<std::string> lines = read_whole_lines(entry.path(), uint64_t{4} << 30);
    if (lines.empty()) continue;
    const Json line = parse_json(lines.back(), entry.path().string());
    std::string differences;
    for (const auto& [key, value] : now.items()) {
      const std::string found = line.contains(key) ? line.at(key).dump() : "nothing";
      if (found != value.dump())
        differences += concat(differences.empty() ? "" : "; ", key, " ", printable(found), ", now ",
                              value.dump());
    }
    if (!differences.empty())
      throw InputError(concat(entry.path().string(), ": made with other settings: ", differences,
                              "\nhint: write to another folder"));
  }
}

// A picture that is no longer what its line says goes, and with it (DatasetWriter) the line: it is
// made again.
void remove_damaged(const fs::path& folder, const std::vector<std::string>& classes,
                    const std::function<bool(int64_t)>& mine, Reporter& reporter) {
  for (const ManifestLine& line : read_manifests(folder, classes)) {
    const fs::path file = folder / line.file;
    if (!mine(line.index) || line.sha256.empty() || !fs::is_regular_file(file)) continue;
    if (sha256_of_file(file) == line.sha256) continue;
    reporter.say(
        concat("warning: ", file.string(), ": not what the manifest says; making it again"));
    fs::remove(file);
  }
}

Image image_at(const std::vector<uint8_t>& pixels, int64_t n, int64_t h, int64_t w, bool grey) {
  Image out{h, w, grey ? 1 : 3, {}};
  const uint8_t* p = pixels.data() + n * h * w * 3;
  for (int64_t i = 0; i < h * w; ++i, p += 3) {
    if (grey)
      out.pixels.push_back(static_cast<uint8_t>((p[0] + p[1] + p[2] + 1) / 3));
    else
      out.pixels.insert(out.pixels.end(), p, p + 3);
  }
  return out;
}

}  // namespace

Sampler::Sampler(Exec& exec, const UNet& unet, const NoiseSchedule& schedule, double scaling_factor,
                 const Embedded& data, const GenerateOptions& options)
    : exec_(exec),
      unet_(unet),
      schedule_(schedule),
      factor_(scaling_factor),
      data_(data),
      options_(options) {
  steps_ = ddim_steps(schedule, {.steps = options.num_inference_steps,
                                 .strength = options.from_noise ? 1.0 : options.strength,
                                 .eta = options.eta});
  if (options.guidance_token == GuidanceToken::class_mean)
    class_means_ = class_mean_embeds(exec, data);
}

Tensor Sampler::operator()(const std::vector<int64_t>& indices) const {
  const auto b = static_cast<int64_t>(indices.size());
  const int64_t h = data_.moments.dim(1), w = data_.moments.dim(2), c = data_.moments.dim(3) / 2;
  const Shape latent{b, h, w, c};
  std::vector<int64_t> samples, prompts;
  for (const int64_t i : indices) {
    samples.push_back(i % data_.size());
    prompts.push_back(data_.prompt_of[static_cast<size_t>(samples.back())]);
  }
  const Tensor index = exec_.from_vector(indices, {b});
  Tensor x = exec_.empty(latent);
  random_normal_samples(exec_, x, options_.seed, Stream::latent_noise, index);
  if (!options_
           .from_noise) {  // the latent prior: noise the real image's latent up to the first step
    const Tensor posterior = exec_.empty(latent), start = exec_.empty(latent);
    random_normal_samples(exec_, posterior, options_.seed, Stream::posterior, index);
    posterior_sample_forward(exec_, start, take_rows(exec_, data_.moments, samples), posterior,
                             factor_);
    const double abar = schedule_.abar(steps_.front().timestep);
    add(exec_, x, start, x, std::sqrt(abar), std::sqrt(1 - abar));
  }

  const bool guided = options_.guidance_scale > 1;  // diffusers: guidance is off at 1 and below
  const Tensor positive = take_rows(exec_, data_.text_states, prompts);
  Tensor context = positive;
  const Tensor rows = guidance_rows(exec_, data_, options_.guidance_token, class_means_, samples);
  if (rows.defined()) replace_last_token(exec_, positive, rows);
  if (guided) {
    const int64_t t = positive.dim(1), d = positive.dim(2);
    context = exec_.empty({2 * b, t, d});
    const Tensor negative = context.slice(0, b);
    copy(exec_, negative,
         take_rows(exec_, data_.empty_state, std::vector<int64_t>(static_cast<size_t>(b), 0)));
    if (rows.defined() && options_.token_both) replace_last_token(exec_, negative, rows);
    copy(exec_, context.slice(b, 2 * b), positive);
  }

  Tape tape(exec_, false);
  const int64_t rows_in = guided ? 2 * b : b;
  const Tensor input = exec_.empty({rows_in, h, w, c});
  const Tensor noise = options_.eta > 0 ? exec_.empty(latent) : Tensor();
  for (size_t s = 0; s < steps_.size(); ++s) {
    const StepCoefficients& step = steps_[s];
    copy(exec_, input.slice(0, b), x);
    if (guided) copy(exec_, input.slice(b, 2 * b), x);
    const Tensor t = exec_.from_vector(
        std::vector<int64_t>(static_cast<size_t>(rows_in), step.timestep), {rows_in});
    const Var e = unet_(tape, Var(input), t, Var(context));
    if (noise.defined()) {  // a stream of its own per step: the step number goes into the seed
      const uint64_t seed = options_.seed ^ (0x9E3779B97F4A7C15ull * (s + 1));
      random_normal_samples(exec_, noise, seed, Stream::variance, index);
    }
    guided_step(exec_, x, x, e.value(), noise, guided ? options_.guidance_scale : 1, step.cx,
                step.ce, step.cn);
  }
  return x;
}

GenerateResult generate(Exec& exec, const fs::path& pipeline, const Embedded& data,
                        const GenerateOptions& o, const fs::path& folder, Reporter& reporter) {
  if (o.shards < 1 || o.shard < 0 || o.shard >= o.shards)
    throw UsageError(
        concat("--shard is ", o.shard, "/", o.shards, ", expected i/n with 0 <= i < n"));
  const auto unet = load_unet(exec, pipeline / "unet");
  const auto vae = load_vae(exec, pipeline / "vae");
  const NoiseSchedule schedule = load_schedule(pipeline);
  std::unique_ptr<Lora> lora;
  if (!o.lora.empty()) {
    lora = std::make_unique<Lora>(exec, *unet->net, o.lora);
    lora->merge(o.lora_scale);
  }
  const double factor = vae->net->config().scaling_factor;
  const Sampler sampler(exec, *unet->net, schedule, factor, data, o);

  int64_t total = data.size() * o.versions;
  if (o.limit > 0) total = std::min(total, o.limit);
  const int64_t batches = (total + o.batch_size - 1) / o.batch_size;
  const auto mine = [&](int64_t index) { return index / o.batch_size % o.shards == o.shard; };
  const std::string manifest =
      o.shards == 1 ? "manifest.jsonl" : concat("manifest-", o.shard, "-of-", o.shards, ".jsonl");
  const Json provenance = {{"scheduler", "ddim"},
                           {"steps", o.num_inference_steps},
                           {"strength", o.from_noise ? 1.0 : o.strength},
                           {"from_noise", o.from_noise},
                           {"guidance_scale", o.guidance_scale},
                           {"lora_scale", o.lora.empty() ? 0.0 : o.lora_scale},
                           {"eta", o.eta},
                           {"batch_size", o.batch_size},
                           {"guidance_token", static_cast<int>(o.guidance_token)},
                           {"token_both", o.token_both},
                           {"grey", o.grey},
                           {"unet", component_digest(pipeline / "unet")},
                           {"vae", component_digest(pipeline / "vae")},
                           {"data", data_digest(exec, data)},
                           {"lora", o.lora.empty() ? "" : sha256_of_file(o.lora).substr(0, 16)}};
  if (fs::is_directory(folder)) {
    Json settings = provenance;
    settings["seed"] = o.seed;
    if (o.shards > 1) settings["batch_size"] = o.batch_size;  // it says which pictures are whose
    require_same_run(folder, settings);
    remove_damaged(folder, data.classes, mine, reporter);
  }
  DatasetWriter writer(folder, data.classes, manifest, mine);
  GenerateResult result;
  const Tensor nonfinite = exec.empty({2}, DType::i64);
  Tape tape(exec, false);
  for (int64_t k = 0; k < batches; ++k) {
    if (!mine(k * o.batch_size)) continue;
    std::vector<int64_t> indices;
    bool complete = true;
    for (int64_t i = k * o.batch_size; i < std::min(total, (k + 1) * o.batch_size); ++i) {
      indices.push_back(i);
      complete = complete && writer.has(i);
    }
    if (complete) {
      result.present += static_cast<int64_t>(indices.size());
      continue;
    }
    const Tensor z = sampler(indices);
    scale(exec, z, z, 1 / factor);
    const Tensor pixels = vae->net->decode(tape, Var(z)).value();
    count_nonfinite(exec, nonfinite, pixels.flat());
    if (const auto found = exec.to_vector<int64_t>(nonfinite); found[0] > 0)
      throw NumericError(concat(
          "image ", indices[static_cast<size_t>(found[1] / (pixels.numel() / pixels.dim(0)))], ": ",
          found[0], " values of its batch are not finite"));
    const Tensor u8 = exec.empty(pixels.shape(), DType::u8);
    quantize_u8(exec, u8, pixels);
    const std::vector<uint8_t> bytes = exec.to_vector<uint8_t>(u8);
    for (size_t j = 0; j < indices.size(); ++j) {
      const int64_t i = indices[j];
      if (writer.has(i)) {
        ++result.present;
        continue;
      }
      const auto sample = static_cast<size_t>(i % data.size());
      Json more = provenance;
      if (!o.from_noise) more["source"] = i % data.size();
      writer.write(i,
                   image_at(bytes, static_cast<int64_t>(j), pixels.dim(1), pixels.dim(2), o.grey),
                   data.labels[sample], data.prompts[static_cast<size_t>(data.prompt_of[sample])],
                   o.seed, more);
      ++result.written;
    }
    reporter.step("generate", std::min(total, (k + 1) * o.batch_size), total, {});
    if (reporter.stop_requested() && k + 1 < batches) {
      writer.sync();
      throw Error(ExitCode::interrupted,
                  concat("interrupted after ", writer.count(), " of ", total, " images"));
    }
  }
  writer.sync();
  return result;
}

}  // namespace realfake
