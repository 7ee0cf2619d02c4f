#include "train/pretrain.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "data/captions.h"
#include "kernels/base/sha256.h"
#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "kernels/image.h"
#include "kernels/random.h"
#include "model/pipeline.h"
#include "train/base_configs.h"
#include "train/classifier.h"
#include "train/diffusion_loss.h"
#include "train/embed.h"
#include "train/generate.h"
#include "train/loop.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

// Sample numbers of the renderer, so that no stage sees another's pictures.
constexpr uint64_t kVaeSamples = 0, kClipSamples = 10'000'000, kLatentSamples = 20'000'000,
                   kRichSamples = 30'000'000, kJudgeSamples = 40'000'000,
                   kHeldOutSamples = 50'000'000;
constexpr double kVaeRichness = 1.5, kClipRichness = 0.7, kPlainRichness = 0.5;

struct Printed {
  Tensor images;  // (N,8,8,3) in [-1,1]
  std::vector<std::string> captions;
  ImageSet set;
};

class Pretrainer {
 public:
  Pretrainer(Exec& exec, const std::vector<Face>& faces, const PretrainOptions& o, fs::path folder,
             bool resume, Reporter& reporter)
      : exec_(exec),
        faces_(faces),
        o_(o),
        folder_(std::move(folder)),
        resume_(resume),
        reporter_(reporter) {}

  PretrainResult run() {
    fs::create_directories(folder_);
    stage("tokenizer", folder_ / "tokenizer" / "vocab.json", [&] { make_tokenizer(); });
    stage("vae", folder_ / "vae" / "diffusion_pytorch_model.safetensors", [&] { train_vae(); });
    stage("clip", folder_ / "image_encoder" / "model.safetensors", [&] { train_clip(); });
    stage("unet", folder_ / "unet" / "diffusion_pytorch_model.safetensors", [&] { train_unet(); });
    write_fixed_files();
    judge();
    write_manifest();
    return result_;
  }

 private:
  // A stage whose last file is there is complete.
  template <class F>
  void stage(const std::string& name, const fs::path& mark, F&& body) {
    if (resume_ && fs::exists(mark)) {
      reporter_.say(name + ": already there");
      return;
    }
    const auto start = std::chrono::steady_clock::now();
    body();
    seconds_[name] =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  // Settings that a checkpoint of a stage depends on.
  Checkpoint checkpoint(const std::string& name) {
    fs::create_directories(folder_ / "checkpoints" / name);
    std::string faces;
    for (const Face& f : faces_) faces += f.outlines;
    const Json settings = {{"stage", name},
                           {"vae_steps", o_.vae_steps},
                           {"clip_steps", o_.clip_steps},
                           {"unet", o_.unet_steps},
                           {"rich", o_.unet_rich_steps},
                           {"batch", o_.batch},
                           {"vae_batch", o_.vae_batch},
                           {"latents", o_.latents},
                           {"token", o_.token_probability},
                           {"seed", o_.seed},
                           {"faces", sha256_hex(faces).substr(0, 16)}};
    return Checkpoint(folder_ / "checkpoints" / name, settings.dump());
  }

  Printed render(uint64_t first, int64_t n, double richness) {
    Printed p;
    p.set = printed_set(render_printed(faces_, o_.seed, first, n, richness));
    p.captions = p.set.captions;
    std::vector<float> v;
    v.reserve(static_cast<size_t>(n * printed_side * printed_side * 3));
    for (const uint8_t x : p.set.pixels)
      v.insert(v.end(), 3, static_cast<float>(x) / 127.5f - 1.0f);
    p.images = exec_.from_vector(v, {n, printed_side, printed_side, 3});
    return p;
  }

  Tensor ids_of(const std::vector<std::string>& captions) {
    std::vector<int64_t> ids;
    for (const std::string& c : captions) {
      const std::vector<int64_t> e = tokenizer().encode(c);
      ids.insert(ids.end(), e.begin(), e.end());
    }
    return exec_.from_vector(ids,
                             {static_cast<int64_t>(captions.size()), tokenizer().max_length()});
  }

  const Tokenizer& tokenizer() {
    if (!tokenizer_)
      tokenizer_ = std::make_unique<Tokenizer>(Tokenizer::load(folder_ / "tokenizer"));
    return *tokenizer_;
  }

  // The vocabulary comes from the captions of printed digits and what a fine-tuning prompt may add
  // to them.
  void make_tokenizer() {
    std::vector<std::string> lines;
    for (const PrintedSample& s :
         render_printed(faces_, o_.seed, kClipSamples, 2000, kClipRichness))
      lines.push_back(s.caption);
    for (const std::string& word : digit_words())
      lines.push_back("photo of " + word + ", handwritten, best quality");
    fs::create_directories(folder_ / "tokenizer");
    Tokenizer(train_bpe(lines, base::kVocabulary), base::kPromptLength).save(folder_ / "tokenizer");
  }

  // Held-out printed digits: mean squared error of the reconstruction from the posterior mean.
  double reconstruction_error(const Vae& vae) {
    const Printed p = render(kHeldOutSamples, 500, kVaeRichness);
    Tape tape(exec_, false);
    const Var moments = vae.encode(tape, Var(p.images));
    const Tensor mean = exec_.clone(moments.value().columns(0, vae.config().latent_channels));
    const Var image = vae.decode(tape, Var(mean));
    return exec_.scalar(weighted_mse(tape, image, p.images, Tensor()).value());
  }

  void train_vae() {
    Json config = base::vae_config();
    auto vae = fresh_vae(exec_, config, o_.seed);
    vae->parameters.set_trainable(true);
    const std::vector<Param> params = vae->parameters.trainable();
    AdamW optimizer(exec_, params, {.lr = 2e-3});
    const int64_t channels = vae->net->config().latent_channels,
                  side = printed_side / vae->net->config().factor();
    const Checkpoint saved = checkpoint("vae");
    run_loop(
        exec_, {.stage = "vae", .steps = o_.vae_steps, .checkpoint_every = o_.checkpointing_steps},
        params, optimizer, nullptr, &saved, resume_, reporter_,
        [&](int64_t s) { return cosine_rate(2e-3, s, o_.vae_steps, 50); },
        [&](Tape& tape, int64_t s) -> LoopStep {
          const auto first = static_cast<uint64_t>(s * o_.vae_batch);
          const Printed p = render(kVaeSamples + first, o_.vae_batch, kVaeRichness);
          const Tensor noise = exec_.empty({o_.vae_batch, side, side, channels});
          random_normal(exec_, noise, o_.seed, Stream::posterior, first);
          const Var moments = vae->net->encode(tape, Var(p.images));
          const Var image = vae->net->decode(tape, posterior_sample(tape, moments, noise, 1));
          const Var mse = weighted_mse(tape, image, p.images, Tensor());
          const Var kl = kl_divergence(tape, moments);
          return {add_weighted(tape, mse, kl, 1e-3),
                  {{"mse", exec_.scalar(mse.value())}, {"kl", exec_.scalar(kl.value())}}};
        });
    vae->parameters.set_trainable(false);
    result_.vae_mse = reconstruction_error(*vae->net);
    // scaling_factor = 1 / std of sampled latents, as latent diffusion defines it.
    const Printed p = render(kHeldOutSamples + 1000, 2000, kVaeRichness);
    Tape tape(exec_, false);
    const Var moments = vae->net->encode(tape, Var(p.images));
    const Tensor noise = exec_.empty({2000, side, side, channels}), z = exec_.empty(noise.shape());
    random_normal(exec_, noise, o_.seed, Stream::posterior, kHeldOutSamples);
    posterior_sample_forward(exec_, z, moments.value(), noise, 1);
    const std::vector<float> v = exec_.to_vector<float>(z);
    const double mean = std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
    double var = 0;
    for (const float x : v) var += (x - mean) * (x - mean) / static_cast<double>(v.size());
    config["scaling_factor"] = std::round(1e4 / std::sqrt(var)) / 1e4;
    reporter_.say(concat("vae: reconstruction mse ", result_.vae_mse, ", scaling_factor ",
                         config["scaling_factor"].get<double>()));
    fs::create_directories(folder_ / "vae");
    write_json_atomic(folder_ / "vae" / "config.json", config);
    save_parameters(vae->parameters, folder_ / "vae" / "diffusion_pytorch_model.safetensors");
    saved.remove();
  }

  // InfoNCE over the batch; equal captions are positives of each other.
  static std::vector<float> shared_positives(const std::vector<std::string>& captions) {
    const size_t n = captions.size();
    std::vector<float> target(n * n, 0);
    for (size_t i = 0; i < n; ++i) {
      const auto same = std::count(captions.begin(), captions.end(), captions[i]);
      for (size_t j = 0; j < n; ++j)
        if (captions[j] == captions[i]) target[i * n + j] = 1.0f / static_cast<float>(same);
    }
    return target;
  }

  void train_clip() {
    const Json text_config = base::text_config(tokenizer()), vision_config = base::vision_config();
    auto text = fresh_text(exec_, text_config, o_.seed);
    auto vision = fresh_vision(exec_, vision_config, o_.seed + 1);
    Parameters head(exec_);
    const Builder b(head, nullptr, o_.seed + 2);
    const int64_t width = text->net->config().hidden_size,
                  joint = vision->net->config().projection_dim;
    const Param projection = b.get("text_projection.weight", {joint, width}, Init::fan_in(width));
    const Param log_scale = b.get("logit_scale", {1}, Init{Init::constant, std::log(1 / 0.07)});
    std::vector<Param> params;
    for (Parameters* p : {&text->parameters, &vision->parameters, &head}) {
      p->set_trainable(true);
      for (const Param& q : p->trainable()) params.push_back(q);
    }
    AdamW optimizer(exec_, params, {.lr = 1e-3}, false);
    const Checkpoint saved = checkpoint("clip");
    const int64_t n = o_.batch;
    run_loop(
        exec_,
        {.stage = "clip", .steps = o_.clip_steps, .checkpoint_every = o_.checkpointing_steps},
        params, optimizer, nullptr, &saved, resume_, reporter_,
        [&](int64_t s) { return cosine_rate(1e-3, s, o_.clip_steps, 50); },
        [&](Tape& tape, int64_t s) -> LoopStep {
          // The last third sees the distortions of the VAE's digits too: handwriting is far from
          // clean print.
          const double richness = s * 3 < o_.clip_steps * 2 ? kClipRichness : kVaeRichness;
          const Printed p = render(kClipSamples + static_cast<uint64_t>(s * n), n, richness);
          std::vector<int64_t> ends;
          for (const std::string& c : p.captions)
            ends.push_back(tokenizer().encode_full(c).length - 1);
          const Var hidden = (*text->net)(tape, ids_of(p.captions));
          const Var pooled = gather_tokens(tape, hidden, exec_.from_vector(ends, {n}));
          const Var t = l2_normalize(tape, linear(tape, pooled, projection->var(), Var()));
          const Var i = l2_normalize(tape, (*vision->net)(tape, Var(clip_pixels(p))));
          const Tensor target = exec_.from_vector(shared_positives(p.captions), {n, n});
          const Var by_image = scale_by_exp(tape, product_nt(tape, i, t), log_scale->var());
          const Var by_text = scale_by_exp(tape, product_nt(tape, t, i), log_scale->var());
          const Var loss = add_weighted(tape, cross_entropy(tape, by_image, target, 0),
                                        cross_entropy(tape, by_text, target, 0), 1);
          return {scale(tape, loss, 0.5), {}};
        });
    fs::create_directories(folder_ / "text_encoder");
    fs::create_directories(folder_ / "image_encoder");
    write_json_atomic(folder_ / "text_encoder" / "config.json", text_config);
    write_json_atomic(folder_ / "image_encoder" / "config.json", vision_config);
    save_parameters(text->parameters, folder_ / "text_encoder" / "model.safetensors");
    save_parameters(vision->parameters, folder_ / "image_encoder" / "model.safetensors");
    saved.remove();
  }

  // From [-1,1] to CLIP's normalisation, (x/255 - mean) / std.
  Tensor clip_pixels(const Printed& p) {
    const ImagePreprocessing norm;
    const int64_t n = p.set.size();
    std::vector<uint8_t> rgb;
    for (const uint8_t x : p.set.pixels) rgb.insert(rgb.end(), 3, x);
    const Tensor out = exec_.empty({n, printed_side, printed_side, 3});
    normalize_u8(exec_, out, exec_.from_vector(rgb, out.shape()), exec_.from_vector(norm.mean, {3}),
                 exec_.from_vector(norm.std, {3}));
    return out;
  }

  // Cached inputs of a UNet stage.
  struct Corpus {
    Tensor moments, image_embeds;
    std::vector<int64_t> caption_of;
  };

  Corpus encode_corpus(const Vae& vae, const ClipVision* vision, uint64_t first, double richness) {
    Corpus c;
    const int64_t n = o_.latents, side = printed_side / vae.config().factor(),
                  ch = 2 * vae.config().latent_channels;
    c.moments = exec_.empty({n, side, side, ch});
    if (vision) c.image_embeds = exec_.empty({n, vision->config().projection_dim});
    Tape tape(exec_, false);
    for (int64_t at = 0; at < n; at += 500) {
      const int64_t end = std::min(n, at + 500);
      const Printed p = render(first + static_cast<uint64_t>(at), end - at, richness);
      copy(exec_, c.moments.slice(at, end), vae.encode(tape, Var(p.images)).value());
      if (vision)
        copy(exec_, c.image_embeds.slice(at, end), (*vision)(tape, Var(clip_pixels(p))).value());
      for (const std::string& caption : p.captions) {
        const auto it = std::find(captions_.begin(), captions_.end(), caption);
        c.caption_of.push_back(it - captions_.begin());
        if (it == captions_.end()) captions_.push_back(caption);
      }
    }
    return c;
  }

  void encode_captions(const ClipText& text) {
    Tape tape(exec_, false);
    std::vector<std::string> all = captions_;
    all.emplace_back();  // the empty prompt is the last row
    states_ = text(tape, ids_of(all)).value();
  }

  void train_unet() {
    const auto vae = load_vae(exec_, folder_ / "vae");
    const auto text = load_text(exec_, folder_ / "text_encoder");
    const auto vision = load_vision(exec_, folder_ / "image_encoder");
    const Json config = base::unet_config();
    auto unet = fresh_unet(exec_, config, o_.seed);
    unet->parameters.set_trainable(true);
    const std::vector<Param> params = unet->parameters.trainable();
    Ema ema(exec_, params, 0.999);
    AdamW optimizer(exec_, params, {.lr = 1.5e-3});
    const Checkpoint saved = checkpoint("unet");
    const NoiseSchedule schedule = NoiseSchedule::stable_diffusion();

    const Corpus plain = encode_corpus(*vae->net, nullptr, kLatentSamples, kPlainRichness);
    const Corpus rich = encode_corpus(*vae->net, vision->net.get(), kRichSamples, kVaeRichness);
    encode_captions(*text->net);
    const int64_t total = o_.unet_steps + o_.unet_rich_steps;
    run_loop(
        exec_, {.stage = "unet", .steps = total, .checkpoint_every = o_.checkpointing_steps},
        params, optimizer, &ema, &saved, resume_, reporter_,
        [&](int64_t s) {
          // Stage 1 stops its cosine early, stage 2 takes the rate to 0.
          return s < o_.unet_steps ? cosine_rate(1.5e-3, s, o_.unet_steps * 7 / 4, 100)
                                   : cosine_rate(1e-3, s - o_.unet_steps, o_.unet_rich_steps, 0);
        },
        [&](Tape& tape, int64_t s) {
          return unet_step(tape, *unet->net, schedule, s < o_.unet_steps ? plain : rich, s,
                           vae->net->config().scaling_factor);
        });
    ema.swap();
    fs::create_directories(folder_ / "unet");
    write_json_atomic(folder_ / "unet" / "config.json", config);
    save_parameters(unet->parameters, folder_ / "unet" / "diffusion_pytorch_model.safetensors");
    saved.remove();
  }

  LoopStep unet_step(Tape& tape, const UNet& unet, const NoiseSchedule& schedule, const Corpus& c,
                     int64_t s, double factor) {
    const int64_t n = o_.batch;
    const auto first = static_cast<uint64_t>(s * n);
    std::vector<int64_t> samples, captions, timesteps, tokens;
    for (int64_t i = 0; i < n; ++i) {
      Philox random(o_.seed, Stream::user, first + static_cast<uint64_t>(i));
      samples.push_back(random.below(static_cast<uint32_t>(o_.latents)));
      timesteps.push_back(random.below(static_cast<uint32_t>(schedule.steps())));
      const bool drop = random.uniform() < 0.1f;  // the unconditional half of guidance
      captions.push_back(drop ? static_cast<int64_t>(captions_.size())
                              : c.caption_of[static_cast<size_t>(samples.back())]);
      if (c.image_embeds.defined() && !drop && random.uniform() < o_.token_probability)
        tokens.push_back(i);
    }
    const Shape shape{n, c.moments.dim(1), c.moments.dim(2), c.moments.dim(3) / 2};
    const Tensor posterior = exec_.empty(shape), noise = exec_.empty(shape),
                 latents = exec_.empty(shape);
    random_normal(exec_, posterior, o_.seed, Stream::posterior, first);
    random_normal(exec_, noise, o_.seed, Stream::train_noise, first);
    posterior_sample_forward(exec_, latents, take_rows(exec_, c.moments, samples), posterior,
                             factor);
    const Tensor context = take_rows(exec_, states_, captions);
    if (!tokens.empty()) {
      const Tensor rows = take_rows(exec_, c.image_embeds, samples);
      for (const int64_t i : tokens)
        replace_last_token(exec_, context.slice(i, i + 1), rows.slice(i, i + 1));
    }
    const DiffusionLoss loss =
        diffusion_loss(tape, unet, schedule, latents, noise, timesteps, context,
                       {.snr_gamma = 5, .dist_match = 0, .matching = Matching::off});
    return {loss.total, {}};
  }

  void write_fixed_files() {
    fs::create_directories(folder_ / "scheduler");
    fs::create_directories(folder_ / "feature_extractor");
    write_json_atomic(folder_ / "scheduler" / "scheduler_config.json", base::scheduler_config());
    write_json_atomic(folder_ / "feature_extractor" / "preprocessor_config.json",
                      base::preprocessor_config());
    write_json_atomic(folder_ / "model_index.json", base::model_index());
  }

  // Are digits made from text what the text says? A classifier of printed digits answers.
  void judge() {
    const Printed train = render(kJudgeSamples, 5000, kVaeRichness);
    ClassifierOptions classifier;
    classifier.max_train_steps = o_.classifier_steps;
    classifier.seed = o_.seed;
    const auto net = train_classifier(exec_, train.set, classifier, {}, false, reporter_);

    ImageSet wanted = train.set.subset([&] {
      std::vector<int64_t> first(static_cast<size_t>(o_.check_images));
      std::iota(first.begin(), first.end(), 0);
      return first;
    }());
    for (int64_t i = 0; i < wanted.size(); ++i) wanted.labels[static_cast<size_t>(i)] = i % 10;
    wanted.captions.clear();
    EmbedOptions embed;
    const Embedded e = embed_dataset(exec_, folder_, wanted, embed, reporter_);
    const auto unet = load_unet(exec_, folder_ / "unet");
    const auto vae = load_vae(exec_, folder_ / "vae");
    const NoiseSchedule schedule = load_schedule(folder_);
    result_.scaling_factor = vae->net->config().scaling_factor;
    result_.vae_mse = reconstruction_error(*vae->net);
    GenerateOptions generate;
    generate.from_noise = true;
    generate.seed = o_.seed;
    const Sampler sampler(exec_, *unet->net, schedule, result_.scaling_factor, e, generate);
    std::vector<int64_t> indices(static_cast<size_t>(o_.check_images));
    std::iota(indices.begin(), indices.end(), 0);
    const Tensor z = sampler(indices);
    scale(exec_, z, z, 1 / result_.scaling_factor);
    Tape tape(exec_, false);
    const Tensor pixels = vae->net->decode(tape, Var(z)).value(),
                 u8 = exec_.empty(pixels.shape(), DType::u8);
    quantize_u8(exec_, u8, pixels);
    wanted.channels = 3;
    wanted.pixels = exec_.to_vector<uint8_t>(u8);
    result_.recognised_percent =
        evaluate_classifier(exec_, *net->net, wanted, classifier.normalization).top1;
    reporter_.say(concat("generated from text and recognised: ", result_.recognised_percent, " %"));
  }

  void write_manifest() {
    Json files = Json::object();
    std::vector<fs::path> paths;
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      const fs::path relative = entry.path().lexically_relative(folder_);
      const std::string top = relative.begin()->string();
      if (entry.is_regular_file() && relative.has_parent_path() && top != "checkpoints")
        paths.push_back(relative);
    }
    std::sort(paths.begin(), paths.end());
    for (const fs::path& p : paths) files[p.generic_string()] = sha256_of_file(folder_ / p);
    std::string outlines;
    for (const Face& f : faces_) outlines += f.outlines;
    const Json manifest = {{"made_by", "realfake pretrain"},
                           {"seed", o_.seed},
                           {"faces", faces_.size()},
                           {"faces_sha256", sha256_hex(outlines)},
                           {"options",
                            {{"vae_steps", o_.vae_steps},
                             {"clip_steps", o_.clip_steps},
                             {"unet_steps", o_.unet_steps},
                             {"unet_rich_steps", o_.unet_rich_steps},
                             {"batch", o_.batch},
                             {"vae_batch", o_.vae_batch},
                             {"latents", o_.latents},
                             {"token_probability", o_.token_probability}}},
                           {"seconds", seconds_},
                           {"vae_mse", result_.vae_mse},
                           {"scaling_factor", result_.scaling_factor},
                           {"recognised_percent", result_.recognised_percent},
                           {"recognised_of", o_.check_images},
                           {"files", files}};
    write_json_atomic(folder_ / "pretrain.json", manifest);
    fs::remove_all(folder_ / "checkpoints");
  }

  Exec& exec_;
  const std::vector<Face>& faces_;
  const PretrainOptions& o_;
  fs::path folder_;
  bool resume_;
  Reporter& reporter_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<std::string> captions_;
  Tensor states_;
  std::map<std::string, double> seconds_;
  PretrainResult result_;
};

}  // namespace

PretrainResult pretrain(Exec& exec, const std::vector<Face>& faces, const PretrainOptions& options,
                        const fs::path& folder, bool resume, Reporter& reporter) {
  return Pretrainer(exec, faces, options, folder, resume, reporter).run();
}

}  // namespace realfake
