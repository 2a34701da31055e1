// What a training step of a backbone costs, beside the same net's convolutions called alone through oneDNN,
// and where the time goes. Run it from the repository's root; docs/bench.md tells what the tables mean.
//
// The net is that of models/<net>/train.prototxt with random images and labels instead of its data layer and
// a head of 1000 classes instead of its own, so that the backbone is what is measured.
#include <gflags/gflags.h>
#include <omp.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <random>
#include <sstream>

#include "crema/io.hpp"
#include "lone_convolution.hpp"
#include "net/summary.hpp"
#include "solver/mixed_precision.hpp"
#include "solver/optimizer.hpp"
#include "solver/watch.hpp"
#include "table.hpp"
#include "timing.hpp"

DEFINE_string(models, "mobilefacenet,iresnet50", "Nets, separated by commas: folders of --folder.");
DEFINE_string(folder, "models", "Where <net>/train.prototxt lies.");
DEFINE_int32(batch, 32, "Images in a step.");
DEFINE_string(precision, "FP32", "FP32, BF16 or FP16: of the step, and of the convolutions but in FP16.");
DEFINE_int32(classes, 1000, "Classes of the head, all of them in each step.");
DEFINE_int32(rounds, 5, "Rounds of steps, then convolutions; medians are printed.");
DEFINE_int32(steps, 1, "Steps and runs of the convolutions in a round.");
DEFINE_int32(warmup, 2, "Steps before the first round.");
DEFINE_string(only, "", "Time only this: step or convolutions.");
DEFINE_int32(slowest, 12, "Layers to list.");
DEFINE_bool(detail, false, "Compare Crema's convolution with oneDNN's for each shape.");
DEFINE_bool(json, false, "Print one line of JSON for each net and nothing else.");

namespace crema {
namespace {

constexpr Pass kPasses[] = {Pass::kForward, Pass::kBackwardData, Pass::kBackwardWeights};

size_t At(Pass pass) {
  return static_cast<size_t>(pass);
}

std::vector<std::string> Split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ',');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// ------------------------------------------------------------------------------------------------- the step

NetParameter BackboneSpec(const std::string& model) {
  NetParameter spec;
  ReadText(FLAGS_folder + "/" + model + "/train.prototxt", &spec);
  spec = ReplaceSources(spec, {FLAGS_batch, 3, 112, 112});
  for (LayerParameter& layer : *spec.mutable_layer()) {
    if (layer.type() != "DistPartialFC") continue;
    layer.mutable_dist_partial_fc_param()->set_num_output(FLAGS_classes);
    layer.mutable_dist_partial_fc_param()->set_sample_rate(1);
  }
  return spec;
}

SolverParameter Momentum() {
  SolverParameter spec;
  spec.set_type("SGD");
  spec.set_momentum(0.9f);
  spec.set_weight_decay(5e-4f);
  return spec;
}

// Milliseconds of a layer in each recorded step.
struct LayerTimes {
  std::vector<double> forward, backward;
};

// The context of the net's layers.
const Context& InPrecision(Workplace* place) {
  Context& ctx = *place;
  SolverParameter spec = Momentum();
  SolverParameter::Precision precision;
  Require(SolverParameter::Precision_Parse(FLAGS_precision, &precision), "--precision is '", FLAGS_precision,
          "'; expected FP32, BF16 or FP16");
  spec.set_precision(precision);
  ctx.activations = ActivationsOf(spec, ctx.real);
  return ctx;
}

class Training {
 public:
  explicit Training(const std::string& model)
      : net_(InPrecision(&place_), BackboneSpec(model), {.phase = TRAIN, .backward = true}),
        optimizer_(place_, Momentum(), net_.params()),
        layers_(net_.steps().size()) {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> pixel(-1, 1);
    images_.resize(static_cast<size_t>(net_.blob("data").count()));
    for (float& value : images_) value = pixel(random);
    labels_.resize(static_cast<size_t>(FLAGS_batch));
    for (float& value : labels_) value = static_cast<float>(random() % static_cast<uint32_t>(FLAGS_classes));
    net_.observer = [this](const Net::Step& step, bool forward, bool begin) {
      Observe(step, forward, begin);
    };
  }

  // What the solver does in an iteration, without reading data; milliseconds.
  double Step(bool record) {
    record_ = record;
    net_.SetInput("data", images_);
    net_.SetInput("label", labels_);
    Context& ctx = place_;
    in_layers_ = 0;
    const Stopwatch watch;
    net_.ZeroParamGrads();
    const double zeroed = watch.Milliseconds();
    const double loss = net_.Forward(ctx);
    net_.Backward(ctx);
    const double passed = watch.Milliseconds();
    Tensor bad(*ctx.device, DType::kF64, {1});
    bad.Zero();
    CountBadGradients(ctx, net_, false, &bad);
    Require(std::isfinite(loss) && bad.ToHost<double>()[0] == 0, "the loss is ", loss,
            " or a gradient is not finite");
    const double looked = watch.Milliseconds();
    optimizer_.Update(ctx, 0.01, ctx.iteration++);
    const double total = watch.Milliseconds();
    ++ctx.pass;
    if (record) {
      others_["update of the weights"].push_back(total - looked);
      others_["zeroing gradients, checking that they are finite"].push_back(zeroed + looked - passed);
      others_["tops made again and sums between layers"].push_back(passed - zeroed - in_layers_);
    }
    return total;
  }

  const Net& net() const { return net_; }
  const std::vector<LayerTimes>& layers() const { return layers_; }
  const std::map<std::string, std::vector<double>>& others() const { return others_; }
  Device& device() { return *place_.context().device; }

  // Learnt values but for the head's, which are as many as there are classes.
  int64_t parameters() const {
    int64_t count = 0;
    for (const Param* param : net_.params()) {
      if (param->needs_grad() && !param->sharded) count += CountOf(param->shape);
    }
    return count;
  }

 private:
  void Observe(const Net::Step& step, bool forward, bool begin) {
    if (begin) {
      layer_watch_ = Stopwatch();
      return;
    }
    const double time = layer_watch_.Milliseconds();
    in_layers_ += time;
    LayerTimes& layer = layers_[static_cast<size_t>(&step - net_.steps().data())];
    if (record_) (forward ? layer.forward : layer.backward).push_back(time);
  }

  Workplace place_;
  Net net_;
  Optimizer optimizer_;
  std::vector<float> images_, labels_;
  std::vector<LayerTimes> layers_;
  std::map<std::string, std::vector<double>> others_;
  Stopwatch layer_watch_;
  double in_layers_ = 0;
  bool record_ = false;
};

// ---------------------------------------------------------------------------------- the convolutions alone

// Value `axis` of a list that has none, one for both axes, or two.
template <class List>
int64_t OnAxis(const List& list, int axis, int64_t otherwise) {
  return list.empty() ? otherwise : list[list.size() == 2 ? axis : 0];
}

// The sizes of a convolution step of a net, in the net's layouts.
ConvolutionSpec SpecOf(const Net::Step& step) {
  const ConvolutionParameter& options = step.layer->spec().convolution_param();
  const Blob &x = *step.bottom[0], &y = *step.top[0];
  const Shape& kernel = step.layer->param(0).shape;
  ConvolutionSpec s;
  s.batch = x.num(), s.channels = x.channels(), s.height = x.height(), s.width = x.width();
  s.dtype = x.dtype() == DType::kF16 ? DType::kF32 : x.dtype();
  s.outputs = y.channels(), s.groups = options.group();
  s.kernel_h = kernel[2], s.kernel_w = kernel[3];
  s.stride_h = options.has_stride_h() ? options.stride_h() : OnAxis(options.stride(), 0, 1);
  s.stride_w = options.has_stride_w() ? options.stride_w() : OnAxis(options.stride(), 1, 1);
  s.pad_h = options.has_pad_h() ? options.pad_h() : OnAxis(options.pad(), 0, 0);
  s.pad_w = options.has_pad_w() ? options.pad_w() : OnAxis(options.pad(), 1, 0);
  s.dilation_h = OnAxis(options.dilation(), 0, 1), s.dilation_w = OnAxis(options.dilation(), 1, 1);
  s.bias = options.bias_term() && !Has16Bits(x.dtype());
  s.x_block = x.block(), s.y_block = y.block();
  Require(s.out_height() == y.height() && s.out_width() == y.width(), "layer '", step.layer->name(),
          "' has sizes that this program misreads");
  return s;
}

// "3x3/2 depthwise"
std::string KindOf(const ConvolutionSpec& s) {
  std::string kind = Concat(s.kernel_h, "x", s.kernel_w);
  if (s.stride_h > 1) kind += Concat("/", s.stride_h);
  if (s.groups > 1) kind += s.groups == s.channels ? " depthwise" : Concat(" in ", s.groups, " groups");
  return kind;
}

// "64x56x56 to 128x28x28, 3x3/2"
std::string ShapeOf(const ConvolutionSpec& s) {
  return Concat(s.channels, "x", s.height, "x", s.width, " to ", s.outputs, "x", s.out_height(), "x",
                s.out_width(), ", ", KindOf(s));
}

// A convolution of the net and its times alone.
struct Case {
  size_t step = 0;  // of the net
  ConvolutionSpec spec = {};
  bool data_grad = false;
  std::shared_ptr<LoneConvolution> passes[3] = {};
  std::vector<double> times[3] = {};

  double forward() const { return Median(times[0]); }
  double backward() const { return Median(times[1]) + Median(times[2]); }
};

class LoneConvolutions {
 public:
  LoneConvolutions(const Net& net, Device& device) : roles_(device) {
    std::map<std::string, Case> known;
    for (size_t k = 0; k < net.steps().size(); ++k) {
      const Net::Step& step = net.steps()[k];
      if (step.layer->type() != "Convolution") continue;
      Case one{.step = k, .spec = SpecOf(step), .data_grad = step.bottom[0]->needs_grad()};
      Case& like = known[Concat(ShapeOf(one.spec), one.data_grad)];
      for (Pass pass : kPasses) {
        if (pass == Pass::kBackwardData && !one.data_grad) continue;
        std::shared_ptr<LoneConvolution>& lone = like.passes[At(pass)];
        if (!lone)
          lone = std::make_shared<LoneConvolution>(one.spec, pass, FastestLayout(one.spec, pass, &roles_));
        one.passes[At(pass)] = lone;
      }
      cases_.push_back(one);
    }
  }

  // Each once, in the order in which training comes to them; milliseconds in the primitives.
  double Run(bool record) {
    double sum = 0;
    const auto run = [&](Case& one, Pass pass) {
      if (!one.passes[At(pass)]) return;
      const double time = one.passes[At(pass)]->Run(&roles_);
      if (record) one.times[At(pass)].push_back(time);
      sum += time;
    };
    for (Case& one : cases_) run(one, Pass::kForward);
    for (size_t i = cases_.size(); i-- > 0;) {
      run(cases_[i], Pass::kBackwardWeights);
      run(cases_[i], Pass::kBackwardData);
    }
    return sum;
  }

  const std::vector<Case>& cases() const { return cases_; }
  // Null where the step is no convolution.
  const Case* Of(size_t step) const {
    for (const Case& one : cases_)
      if (one.step == step) return &one;
    return nullptr;
  }

 private:
  RoleMemory roles_;
  std::vector<Case> cases_;
};

// ------------------------------------------------------------------------------------------------- tables

// Of each round.
struct Rounds {
  std::vector<double> step, convolutions, ratio;
};

// Where time goes, by layer type; convolutions by their kind, beside oneDNN alone.
void PrintTypes(const Training& training, const LoneConvolutions* lone, double step_ms) {
  struct Sum {
    int layers = 0;
    double forward = 0, backward = 0, lone_forward = 0, lone_backward = 0;
  };
  std::map<std::string, Sum> sums;
  for (size_t k = 0; k < training.layers().size(); ++k) {
    const Case* one = lone ? lone->Of(k) : nullptr;
    const std::string& type = training.net().steps()[k].layer->type();
    Sum& sum = sums[one ? type + " " + KindOf(one->spec) : type];
    ++sum.layers;
    sum.forward += Median(training.layers()[k].forward);
    sum.backward += Median(training.layers()[k].backward);
    if (one) sum.lone_forward += one->forward(), sum.lone_backward += one->backward();
  }
  Table table({"what", "layers", "forward ms", "oneDNN alone", "backward ms", "oneDNN alone", "% of step"},
              1);
  std::vector<std::pair<std::string, Sum>> order(sums.begin(), sums.end());
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.second.forward + a.second.backward > b.second.forward + b.second.backward;
  });
  for (const auto& [type, sum] : order) {
    const bool compare = sum.lone_forward > 0;
    table.Add({type, std::to_string(sum.layers), Fixed(sum.forward, 1),
               compare ? Fixed(sum.lone_forward, 1) : "", Fixed(sum.backward, 1),
               compare ? Fixed(sum.lone_backward, 1) : "",
               Fixed(100 * (sum.forward + sum.backward) / step_ms, 1)});
  }
  for (const auto& [what, times] : training.others())
    table.Add({what, "", "", "", Fixed(Median(times), 1), "", Fixed(100 * Median(times) / step_ms, 1)});
  std::cout << "\nWhere the time of a step goes (" << training.net().name() << "):\n\n";
  table.Print(std::cout);
}

void PrintSlowest(const Training& training, const LoneConvolutions* lone) {
  const auto total = [&](size_t k) {
    return Median(training.layers()[k].forward) + Median(training.layers()[k].backward);
  };
  std::vector<std::pair<double, size_t>> order;
  for (size_t k = 0; k < training.layers().size(); ++k) order.push_back({-total(k), k});
  std::sort(order.begin(), order.end());
  order.resize(std::min(order.size(), static_cast<size_t>(std::max(0, FLAGS_slowest))));
  Table table({"layer", "type", "top", "forward ms", "oneDNN alone", "backward ms", "oneDNN alone"}, 3);
  for (const auto& [negative, k] : order) {
    const Net::Step& step = training.net().steps()[k];
    const Case* one = lone ? lone->Of(k) : nullptr;
    table.Add({step.layer->name(), one ? KindOf(one->spec) : step.layer->type(),
               ToString(step.top[0]->shape()), Fixed(Median(training.layers()[k].forward), 2),
               one ? Fixed(one->forward(), 2) : "", Fixed(Median(training.layers()[k].backward), 2),
               one ? Fixed(one->backward(), 2) : ""});
  }
  std::cout << "\nThe slowest layers:\n\n";
  table.Print(std::cout);
}

// Crema's convolution of one shape, on memory of `roles`, which nobody else may enlarge meanwhile.
class OurConvolution {
 public:
  OurConvolution(const ConvolutionSpec& spec, Device& device, RoleMemory* roles)
      : operation_(device.NewConvolution(spec)), scratch_(device) {
    const auto tensor = [&](int role, Shape shape, int64_t block) {
      const size_t bytes = static_cast<size_t>(CountOf(shape)) * sizeof(float);
      const std::shared_ptr<void> memory(roles->Get(role, bytes), [](void*) {});  // the roles' own
      return Tensor(device, DType::kF32, std::move(shape), block, memory, 0);
    };
    const Shape x = {spec.batch, spec.channels, spec.height, spec.width};
    const Shape y = {spec.batch, spec.outputs, spec.out_height(), spec.out_width()};
    const Shape w = {spec.outputs, spec.channels / spec.groups, spec.kernel_h, spec.kernel_w};
    x_ = tensor(DNNL_ARG_SRC, x, spec.x_block), dx_ = tensor(DNNL_ARG_DIFF_SRC, x, spec.x_block);
    y_ = tensor(DNNL_ARG_DST, y, spec.y_block), dy_ = tensor(DNNL_ARG_DIFF_DST, y, spec.y_block);
    w_ = tensor(DNNL_ARG_WEIGHTS, w, 1), dw_ = tensor(DNNL_ARG_DIFF_WEIGHTS, w, 1);
    if (!spec.bias) return;
    bias_ = tensor(DNNL_ARG_BIAS, {spec.outputs}, 1);
    dbias_ = tensor(DNNL_ARG_DIFF_BIAS, {spec.outputs}, 1);
  }

  double Run(Pass pass) {
    const Stopwatch watch;
    if (pass == Pass::kForward) {
      operation_->Forward(scratch_, x_, w_, bias_.empty() ? nullptr : &bias_, &y_);
    } else if (pass == Pass::kBackwardData) {
      operation_->BackwardData(scratch_, dy_, w_, &dx_);
    } else {
      operation_->BackwardWeights(scratch_, x_, dy_, &dw_, dbias_.empty() ? nullptr : &dbias_);
    }
    return watch.Milliseconds();
  }

 private:
  std::unique_ptr<Convolution> operation_;
  Scratch scratch_;
  Tensor x_, dx_, y_, dy_, w_, dw_, bias_, dbias_;
};

// For each shape Crema's convolution and oneDNN's in turn.
void PrintDetail(const Training& training, const LoneConvolutions& lone, Device& device) {
  Require(FLAGS_precision == "FP32", "--detail goes with --precision=FP32");
  constexpr int kRuns = 7;        // the first does not count
  constexpr double kSlow = 1000;  // such a convolution runs twice
  std::map<std::string, int> layers;
  for (const Case& one : lone.cases()) ++layers[ShapeOf(one.spec)];
  Table table({"shape", "layers", "pass", "Crema ms", "oneDNN alone ms", "lost in a step ms", "GMAC/s alone",
               "oneDNN's choice"},
              1);
  RoleMemory our_roles(device), roles(device);
  for (const Case& one : lone.cases()) {
    const ConvolutionSpec& spec = one.spec;
    const int count = std::exchange(layers[ShapeOf(spec)], 0);
    if (count == 0) continue;
    OurConvolution ours(spec, device, &our_roles);
    const int64_t products = spec.batch * spec.outputs * spec.out_height() * spec.out_width() *
                             (spec.channels / spec.groups) * spec.kernel_h * spec.kernel_w;
    for (Pass pass : kPasses) {
      if (pass == Pass::kBackwardData && !one.data_grad) continue;
      std::vector<double> a, b;
      for (int run = 0; run < kRuns; ++run) {
        const double our_time = ours.Run(pass), lone_time = one.passes[At(pass)]->Run(&roles);
        if (run > 0) a.push_back(our_time), b.push_back(lone_time);
        if (run > 0 && our_time > kSlow) break;
      }
      const char* names[] = {"forward", "backward, data", "backward, weights"};
      const double lone_ms = Median(b);
      table.Add({ShapeOf(spec), std::to_string(count), names[At(pass)], Fixed(Median(a), 2),
                 Fixed(lone_ms, 2), Fixed((Median(a) - lone_ms) * count, 2),
                 Fixed(static_cast<double>(products) / lone_ms / 1e6, 1), one.passes[At(pass)]->choice()});
    }
  }
  std::cout << "\nConvolutions by shape, batch " << FLAGS_batch << " (" << training.net().name() << "):\n\n";
  table.Print(std::cout);
}

// ---------------------------------------------------------------------------------------------------- runs

// Peak memory of a process that only trains this net, in MB.
double PeakOfTraining(const std::string& model) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = Concat("'", self, "' --json --only=step --rounds=1 --warmup=1 --models='",
                                     model, "' --folder='", FLAGS_folder, "' --batch=", FLAGS_batch,
                                     " --classes=", FLAGS_classes, " --precision=", FLAGS_precision);
  FILE* pipe = popen(command.c_str(), "r");
  Require(pipe != nullptr, "the program cannot start itself again");
  std::string output;
  for (int c; (c = std::fgetc(pipe)) != EOF;) output += static_cast<char>(c);
  const std::string key = "\"peak_mb\": ";
  const size_t at = output.find(key);
  Require(pclose(pipe) == 0 && at != std::string::npos, "a run for the peak memory of ", model, " failed");
  return std::stod(output.substr(at + key.size()));
}

Rounds Measure(Training* training, LoneConvolutions* lone) {
  const bool steps = FLAGS_only != "convolutions", convolutions = lone != nullptr;
  for (int i = 0; steps && i < FLAGS_warmup; ++i) training->Step(false);
  if (convolutions) lone->Run(false);
  Rounds rounds;
  for (int round = 0; round < FLAGS_rounds; ++round) {
    std::vector<double> step, alone;
    for (int i = 0; i < FLAGS_steps; ++i) {
      if (steps) step.push_back(training->Step(true));
      if (convolutions) alone.push_back(lone->Run(true));
    }
    if (steps) rounds.step.push_back(Median(step));
    if (convolutions) rounds.convolutions.push_back(Median(alone));
    if (steps && convolutions) rounds.ratio.push_back(Median(step) / Median(alone));
  }
  return rounds;
}

// What the step may be, in times of its convolutions; 0: no aim.
double AimOf(const std::string& model) {
  return model == "iresnet50" ? 1.15 : model == "mobilefacenet" ? 1.4 : 0;
}

void PrintJson(const std::string& model, const Training& training, const Rounds& rounds, bool peak) {
  std::cout << "{\"net\": \"" << model << "\", \"batch\": " << FLAGS_batch
            << ", \"step_ms\": " << Fixed(Median(rounds.step), 2)
            << ", \"convolutions_ms\": " << Fixed(Median(rounds.convolutions), 2)
            << ", \"ratio\": " << Fixed(Median(rounds.ratio), 3)
            << ", \"parameters\": " << training.parameters();
  if (peak) std::cout << ", \"peak_mb\": " << Fixed(PeakMemory() / 1e6, 1);
  std::cout << "}" << std::endl;
}

void Summarise(const std::string& model, const Rounds& rounds, double peak_mb, Table* table) {
  const double step = Median(rounds.step), convolutions = Median(rounds.convolutions);
  const auto [least, most] = std::minmax_element(rounds.ratio.begin(), rounds.ratio.end());
  const bool both = !rounds.ratio.empty();
  const double aim = AimOf(model);
  table->Add({model, step > 0 ? Fixed(step, 1) : "", convolutions > 0 ? Fixed(convolutions, 1) : "",
              both ? Fixed(Median(rounds.ratio), 3) : "",
              both ? Fixed(*least, 3) + " to " + Fixed(*most, 3) : "", aim > 0 ? Fixed(aim, 2) : "",
              step > 0 ? Fixed(1000 * FLAGS_batch / step, 1) : "", peak_mb > 0 ? Fixed(peak_mb, 0) : ""});
}

void RunNet(const std::string& model, Table* summary) {
  const bool steps = FLAGS_only != "convolutions", convolutions = FLAGS_only != "step";
  const double peak_mb = !FLAGS_json && steps ? PeakOfTraining(model) : 0;
  Training training(model);
  // A process for the peak memory must hold nothing but the training.
  std::unique_ptr<LoneConvolutions> lone;
  if (convolutions) lone = std::make_unique<LoneConvolutions>(training.net(), training.device());
  const Rounds rounds = Measure(&training, lone.get());
  if (FLAGS_json) {
    // The peak is this net's only where nothing else ran in the process.
    PrintJson(model, training, rounds, !convolutions && Split(FLAGS_models).size() == 1);
    return;
  }
  Summarise(model, rounds, peak_mb, summary);
  if (steps) {
    PrintTypes(training, lone.get(), Median(rounds.step));
    PrintSlowest(training, lone.get());
  }
  if (FLAGS_detail && lone) PrintDetail(training, *lone, training.device());
}

std::string ProcessorName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

// The instructions that oneDNN uses.
std::string IsaName() {
  const int isa = static_cast<int>(dnnl::get_effective_cpu_isa());
  const auto has = [isa](dnnl::cpu_isa level) {
    return (isa & static_cast<int>(level)) == static_cast<int>(level);
  };
  if (has(dnnl::cpu_isa::avx512_core_amx)) return "AVX-512 with AMX";
  if (has(dnnl::cpu_isa::avx512_core_bf16)) return "AVX-512 with bf16";
  if (has(dnnl::cpu_isa::avx512_core)) return "AVX-512";
  return has(dnnl::cpu_isa::avx2) ? "AVX2" : "less than AVX2";
}

void Run() {
  Require(FLAGS_only.empty() || FLAGS_only == "step" || FLAGS_only == "convolutions", "--only is '",
          FLAGS_only, "' where step or convolutions was expected");
  Require(FLAGS_rounds > 0 && FLAGS_steps > 0 && FLAGS_batch > 0 && FLAGS_classes > 0,
          "--rounds, --steps, --batch and --classes must be at least 1");
  Table summary({"net", "step ms", "convolutions alone ms", "ratio", "ratios of the rounds", "aim",
                 "images/s", "peak MB"},
                1);
  if (!FLAGS_json) {
    std::cout << "Processor: " << ProcessorName() << ", oneDNN uses " << IsaName() << ", "
              << omp_get_max_threads() << " threads\nTraining steps of " << FLAGS_batch << " images in "
              << FLAGS_precision << ", a head of " << FLAGS_classes << " classes, medians of " << FLAGS_rounds
              << " rounds" << std::endl;
  }
  for (const std::string& model : Split(FLAGS_models)) RunNet(model, &summary);
  if (FLAGS_json) return;
  std::cout << "\n";
  summary.Print(std::cout);
}

}  // namespace
}  // namespace crema

int main(int argc, char** argv) try {
  gflags::SetUsageMessage("times training steps of backbones beside their convolutions alone");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  crema::Require(argc == 1, "bench_backbone takes flags only and was given '", argc > 1 ? argv[1] : "", "'");
  crema::Run();
  return 0;
} catch (const std::exception& error) {
  std::cerr << "bench_backbone: " << error.what() << "\n";
  return 1;
}
