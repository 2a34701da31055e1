// Steps of a classifier alone: embeddings and labels in, loss and gradient of the embeddings out, class
// centres updated. One case per process, so that its peak memory is its own; bench/partial_fc.sh makes the
// table.
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <cmath>
#include <iostream>

#include "crema/io.hpp"
#include "crema/net.hpp"
#include "crema/parallel.hpp"
#include "head_net.hpp"
#include "net/streaming_head.hpp"
#include "solver/optimizer.hpp"
#include "table.hpp"
#include "timing.hpp"

DEFINE_int64(classes, 100000, "number of identities");
DEFINE_int64(width, 512, "numbers of an embedding");
DEFINE_int64(batch, 64, "samples of a step");
DEFINE_double(rate, 0.1, "sample_rate");
DEFINE_int32(steps, 20, "steps that are timed, after two that are not");
DEFINE_string(head, "", "further fields of dist_partial_fc_param");
DEFINE_string(solver, "momentum: 0.9 weight_decay: 5e-4", "fields of the solver");
DEFINE_bool(fuse, true, "as one layer; false: DistPartialFC and MarginSoftmax apart");
DEFINE_bool(machine, false, "measure matrix products and memory instead, and print them");

namespace crema {
namespace {

template <class F>
double Fastest(int times, const F& f) {
  double best = 1e30;
  for (int i = 0; i < times; ++i) {
    Stopwatch watch;
    f();
    best = std::min(best, watch.Milliseconds());
  }
  return best;
}

struct AddScaled {
  const float *a, *b;
  float* c;
  CREMA_HD void operator()(int64_t i) const { c[i] = a[i] + 3 * b[i]; }
};

// What the floors are reckoned with: GFLOP/s of a square product, of f32 and of bf16 as far as that is fast
// here, and GB/s of a triad, best of five.
void MeasureMachine() {
  Workplace place;
  const Context& ctx = place;
  constexpr int64_t kSide = 2048, kCount = 1 << 26;
  const auto filled = [&](int64_t count) {
    Tensor x(*ctx.device, DType::kF32, {count});
    x.FromHost(std::vector<float>(static_cast<size_t>(count), 0.5f));
    return x;
  };
  Tensor a = filled(kSide * kSide), b = filled(kSide * kSide), c = filled(kSide * kSide);
  const GemmShape square{false, false, kSide, kSide, kSide, 0, 0, 0};
  const auto gflops = [&](DType dtype) {  // a float 0.5 is a 0 and a 0.5 of bf16
    const double ms = Fastest(5, [&] { ctx.device->Gemm(dtype, square, 1, a.raw(), b.raw(), 0, c.raw()); });
    return Fixed(2.0 * kSide * kSide * kSide / ms / 1e6, 1);
  };
  const std::string of_f32 = gflops(DType::kF32);
  const std::string of_bf16 = ctx.device->IsFastIn(DType::kBF16) ? gflops(DType::kBF16) : of_f32;
  a = filled(kCount), b = filled(kCount), c = filled(kCount);
  const double triad = Fastest(5, [&] {
    ForEach(ctx, kCount, AddScaled{a.data<float>(), b.data<float>(), c.data<float>()});
  });
  std::cout << "gflops=" << of_f32 << " bf16_gflops=" << of_bf16
            << " gbytes=" << Fixed(3.0 * kCount * sizeof(float) / triad / 1e6, 1)
            << " threads=" << Workers(ctx) << "\n";
}

// Separable: each of 500 identities, spread over all classes, has a direction, and an embedding is that and
// noise.
struct Batch {
  std::vector<float> x, label;
};
Batch MakeBatch(int64_t step) {
  Batch batch;
  const Philox random = MakePhilox(1, "batch", step);
  for (int64_t i = 0; i < FLAGS_batch; ++i) {
    const int64_t seen = std::min<int64_t>(500, FLAGS_classes);
    const int64_t person =
        static_cast<int64_t>(random.Uniform(static_cast<uint64_t>(i)) * static_cast<double>(seen));
    batch.label.push_back(static_cast<float>(person * (FLAGS_classes / seen)));
    const Philox of_class = MakePhilox(2, "class", static_cast<int64_t>(batch.label.back()));
    for (int64_t k = 0; k < FLAGS_width; ++k) {
      const uint64_t at = static_cast<uint64_t>(i * FLAGS_width + k);
      batch.x.push_back(
          static_cast<float>(of_class.Normal(static_cast<uint64_t>(k)) + random.Normal(at + 1000)));
    }
  }
  return batch;
}

void Run() {
  Workplace place;
  Context& ctx = place;
  NetOptions options;
  options.phase = TRAIN;
  options.backward = true;
  Stopwatch start;
  Net net(ctx, HeadNet({FLAGS_classes, FLAGS_width, FLAGS_batch, FLAGS_rate, FLAGS_head, FLAGS_fuse}),
          options);
  SolverParameter solver;
  ParseText(FLAGS_solver, "--solver", &solver);
  Optimizer optimizer(ctx, solver, net.params());
  const double start_ms = start.Milliseconds(), start_peak = PeakMemory();
  StreamingHead* head = dynamic_cast<StreamingHead*>(net.steps().back().layer);
  std::vector<double> times, losses;
  for (int64_t t = 0; t < FLAGS_steps + 2; ++t) {
    const Batch batch = MakeBatch(t);
    net.SetInput("x", batch.x);
    net.SetInput("label", batch.label);
    if (t == 2 && head != nullptr) head->ResetTimes();
    ctx.iteration = ctx.pass = t;
    Stopwatch watch;
    net.ZeroParamGrads();
    optimizer.Begin(0.1, t);
    losses.push_back(net.Forward(ctx));
    net.Backward(ctx);
    optimizer.Update(ctx, 0.1, t);
    if (t >= 2) times.push_back(watch.Milliseconds());
  }
  std::cout << "ms=" << Fixed(Median(times), 1) << " start_s=" << Fixed(start_ms / 1e3, 1)
            << " start_mb=" << Fixed(start_peak / 1e6, 0) << " peak_mb=" << Fixed(PeakMemory() / 1e6, 0)
            << " first_loss=" << Fixed(losses.front(), 3) << " last_loss=" << Fixed(losses.back(), 3);
  if (head != nullptr) {
    const StreamingTimes split = head->times();
    const double each = 1e3 / (FLAGS_steps * static_cast<double>(Workers(ctx)));
    std::cout << " draw=" << Fixed(1e3 * split.draw / FLAGS_steps, 1)
              << " gather=" << Fixed(each * split.gather, 1)
              << " multiply=" << Fixed(each * split.multiply, 1)
              << " softmax=" << Fixed(each * split.softmax, 1) << " update=" << Fixed(each * split.update, 1)
              << " skipped="
              << Fixed(100.0 * static_cast<double>(split.skipped) /
                           static_cast<double>(std::max<int64_t>(1, split.chunks)),
                       0)
              << " own_mb=" << Fixed(static_cast<double>(head->bytes()) / 1e6, 0);
  }
  std::cout << "\n";
}

}  // namespace
}  // namespace crema

int main(int argc, char** argv) {
  gflags::SetUsageMessage("times steps of a classifier alone; see the head of bench/partial_fc.sh");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  google::InitGoogleLogging(argv[0]);
  try {
    FLAGS_machine ? crema::MeasureMachine() : crema::Run();
  } catch (const crema::Error& error) {
    std::cerr << "partial_fc: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
