// Rates of one device, a GPU or the CPU, each as a row of tests/gpu/run.sh's table: `what | size | rate |
// peak memory`. One measurement per process, so that its peak memory is its own. With several ranks,
// --measure=allreduce measures what the ranks' devices exchange.
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <cmath>
#include <functional>
#include <iostream>
#include <random>

#include "crema/comm.hpp"
#include "crema/context.hpp"
#include "crema/io.hpp"
#include "crema/net.hpp"
#include "head_net.hpp"
#include "net/summary.hpp"
#include "solver/mixed_precision.hpp"
#include "solver/optimizer.hpp"
#include "table.hpp"
#include "timing.hpp"

DEFINE_string(measure, "", "gemm, convolution, step, head or allreduce");
DEFINE_int32(gpu, -1, "The GPU; with several ranks, each takes the next one. -1: the CPU.");
DEFINE_string(precision, "FP32",
              "gemm, convolution and step: FP32, TF32, BF16 or FP16, as the solver has it.");
DEFINE_int32(repeats, 10, "Measurements, of which the median is printed, after two that are not.");
DEFINE_int64(side, 8192, "gemm: rows and columns of the matrices.");
DEFINE_int64(batch, 128, "convolution, step and head: samples.");
DEFINE_int64(channels, 256, "convolution: of a 3x3 convolution, in and out.");
DEFINE_int64(pixels, 14, "convolution: rows and columns of the images.");
DEFINE_string(net, "models/iresnet50/train.prototxt", "step: the net, whose data are replaced.");
DEFINE_int64(classes, 1000000, "head and step: identities.");
DEFINE_double(rate, 0.1, "head and step: sample_rate.");
DEFINE_string(head, "", "head: further fields of dist_partial_fc_param.");
DEFINE_int64(megabytes, 256, "allreduce: size of the tensor.");

namespace crema {
namespace {

// Median milliseconds of f(), all of it done.
double Time(Device& device, const std::function<void()>& f) {
  std::vector<double> times;
  for (int i = 0; i < FLAGS_repeats + 2; ++i) {
    device.Synchronize();
    const Stopwatch watch;
    f();
    device.Synchronize();
    if (i >= 2) times.push_back(watch.Milliseconds());
  }
  return Median(times);
}

void PrintRow(Context& ctx, const std::string& what, const std::string& size, const std::string& rate) {
  if (!ctx.comm->root()) return;
  const int64_t peak = ctx.device->PeakBytes();
  std::cout << "| " << what << " | " << size << " | " << rate << " | "
            << (peak > 0 ? Fixed(static_cast<double>(peak) / 1e9, 2) + " GB" : "-") << " |" << std::endl;
}

std::string Precision() {
  return ", " + FLAGS_precision;
}

// A tensor full of 1/2.
Tensor Halves(Context& ctx, DType dtype, const Shape& shape, int64_t block = 1) {
  Tensor x(*ctx.device, dtype, shape, block);
  ForBlob(dtype, [&]<class T, class Stored>() {
    x.FromHost(std::vector<Stored>(static_cast<size_t>(CountOf(shape)), static_cast<Stored>(T(0.5))));
  });
  return x;
}

std::string TeraFlops(double flops, double ms) {
  return Fixed(flops / ms / 1e9, 2) + " TFLOP/s";
}

void MeasureGemm(Context& ctx) {
  const int64_t n = FLAGS_side;
  const DType dtype = ctx.activations;
  const Tensor a = Halves(ctx, dtype, {n, n}), b = Halves(ctx, dtype, {n, n});
  Tensor c(*ctx.device, DType::kF32, {n, n});
  const GemmShape shape{false, true, n, n, n, 0, 0, 0};
  const double ms =
      Time(*ctx.device, [&] { ctx.device->Gemm(dtype, shape, 1, a.raw(), b.raw(), 0, c.raw()); });
  const double side = static_cast<double>(n);
  PrintRow(ctx, "matrix product" + Precision(), Concat(n, " x ", n, " x ", n),
           TeraFlops(2 * side * side * side, ms));
}

void MeasureConvolution(Context& ctx) {
  ConvolutionSpec spec;
  spec.batch = FLAGS_batch, spec.channels = spec.outputs = FLAGS_channels;
  spec.height = spec.width = FLAGS_pixels, spec.kernel_h = spec.kernel_w = 3, spec.pad_h = spec.pad_w = 1;
  spec.dtype = ctx.activations;
  spec.x_block = spec.y_block = ctx.device->ChannelBlock(spec.dtype, FLAGS_channels);
  const Shape images{FLAGS_batch, FLAGS_channels, FLAGS_pixels, FLAGS_pixels};
  const std::unique_ptr<Convolution> convolution = ctx.device->NewConvolution(spec);
  const Shape weights{FLAGS_channels, FLAGS_channels, 3, 3};
  const int64_t block = convolution->WeightBlock();
  const Tensor x = Halves(ctx, spec.dtype, images, spec.x_block), w = Halves(ctx, spec.dtype, weights, block);
  Tensor y(*ctx.device, spec.dtype, images, spec.y_block),
      dx = y, dw(*ctx.device, convolution->WeightGradType(), weights, block);
  dw.Zero();
  const double flops = 18 * static_cast<double>(CountOf(images) * FLAGS_channels);
  const std::string size = Concat("3x3, ", ToString(images));
  Scratch& scratch = *ctx.scratch;
  PrintRow(ctx, "convolution forward" + Precision(), size,
           TeraFlops(flops, Time(*ctx.device, [&] { convolution->Forward(scratch, x, w, nullptr, &y); })));
  PrintRow(ctx, "convolution backward, data" + Precision(), size,
           TeraFlops(flops, Time(*ctx.device, [&] { convolution->BackwardData(scratch, x, w, &dx); })));
  PrintRow(ctx, "convolution backward, weights" + Precision(), size,
           TeraFlops(flops,
                     Time(*ctx.device, [&] { convolution->BackwardWeights(scratch, x, x, &dw, nullptr); })));
}

// Milliseconds of a training step of a net whose inputs are `data` and `label`: what the solver does but for
// reading data.
double TimeSteps(Context& ctx, const NetParameter& spec, const std::string& data) {
  NetOptions options;
  options.phase = TRAIN, options.backward = true;
  Net net(ctx, spec, options);
  SolverParameter solver;
  ParseText("type: 'SGD' momentum: 0.9 weight_decay: 5e-4", "bench/gpu", &solver);
  Optimizer optimizer(ctx, solver, net.params());
  std::mt19937 random(1);
  std::vector<float> values(static_cast<size_t>(net.blob(data).count())),
      labels(static_cast<size_t>(FLAGS_batch));
  for (float& value : values) value = std::uniform_real_distribution<float>(-1, 1)(random);
  for (float& label : labels) label = static_cast<float>(random() % static_cast<uint64_t>(FLAGS_classes));
  net.SetInput(data, values);
  net.SetInput("label", labels);
  return Time(*ctx.device, [&] {
    net.ZeroParamGrads();
    optimizer.Begin(0.01, ctx.iteration);
    const double loss = net.Forward(ctx);
    Require(std::isfinite(loss), "the loss is ", loss);
    net.Backward(ctx);
    optimizer.Update(ctx, 0.01, ctx.iteration++);
    ++ctx.pass;
  });
}

void MeasureStep(Context& ctx) {
  NetParameter spec;
  ReadText(FLAGS_net, &spec);
  spec = ReplaceSources(spec, {FLAGS_batch, 3, 112, 112});
  for (LayerParameter& layer : *spec.mutable_layer()) {
    if (layer.type() != "DistPartialFC") continue;
    layer.mutable_dist_partial_fc_param()->set_num_output(FLAGS_classes);
    layer.mutable_dist_partial_fc_param()->set_sample_rate(static_cast<float>(FLAGS_rate));
  }
  const double ms = TimeSteps(ctx, spec, "data");
  PrintRow(ctx, Concat("training step of ", spec.name(), Precision()),
           Concat("batch ", FLAGS_batch, ", ", FLAGS_classes, " identities at ", FLAGS_rate),
           Fixed(1e3 * static_cast<double>(FLAGS_batch) / ms, 1) + " images/s");
}

void MeasureHead(Context& ctx) {
  const NetParameter spec =
      HeadNet({.classes = FLAGS_classes, .batch = FLAGS_batch, .rate = FLAGS_rate, .fields = FLAGS_head});
  PrintRow(ctx, Concat("step of the head ", FLAGS_head),
           Concat("batch ", FLAGS_batch, ", ", FLAGS_classes, " identities at ", FLAGS_rate),
           Fixed(TimeSteps(ctx, spec, "x"), 2) + " ms");
}

void MeasureAllReduce(Context& ctx) {
  Tensor x = Halves(ctx, DType::kF32, {FLAGS_megabytes * 250 * 1000});
  const double ms = Time(*ctx.device, [&] { ctx.comm->AllReduce(&x, Reduce::kMax); });
  const Collective collective{Collective::Kind::kAllReduce, "", x.bytes()};
  PrintRow(ctx, "all-reduce, sent by a rank", Concat(FLAGS_megabytes, " MB, ", ctx.comm->size(), " ranks"),
           Fixed(static_cast<double>(SentBytes(collective, ctx.comm->size())) / ms / 1e6, 1) + " GB/s");
}

void Run(Communicator& host) {
  std::unique_ptr<Device> device = FLAGS_gpu < 0 ? NewCpuDevice() : NewCudaDevice(FLAGS_gpu + host.rank());
  Workplace place(std::move(device), host);
  Context& ctx = place;
  SolverParameter spec;
  SolverParameter::Precision precision;
  Require(SolverParameter::Precision_Parse(FLAGS_precision, &precision), "--precision is \"", FLAGS_precision,
          "\", one of FP32, TF32, BF16 and FP16 was expected");
  spec.set_precision(precision);
  PrepareDevice(spec, ctx);
  ctx.activations = ActivationsOf(spec, ctx.real);
  if (FLAGS_measure == "gemm") return MeasureGemm(ctx);
  if (FLAGS_measure == "convolution") return MeasureConvolution(ctx);
  if (FLAGS_measure == "step") return MeasureStep(ctx);
  if (FLAGS_measure == "head") return MeasureHead(ctx);
  Require(FLAGS_measure == "allreduce", "--measure is \"", FLAGS_measure,
          "\", one of gemm, convolution, step, head and allreduce was expected");
  MeasureAllReduce(ctx);
}

}  // namespace
}  // namespace crema

int main(int argc, char** argv) {
  gflags::SetUsageMessage("measures one rate of a device; tests/gpu/run.sh makes the table");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  google::InitGoogleLogging(argv[0]);
  std::unique_ptr<crema::Communicator> comm;
  try {
    comm = crema::NewProcessCommunicator(&argc, &argv);
    crema::Run(*comm);
  } catch (const crema::Error& error) {
    std::cerr << "bench_gpu: " << error.what() << "\n";
    if (comm != nullptr && comm->size() > 1) comm->Abort(error.what());
    return 1;
  }
  return 0;
}
