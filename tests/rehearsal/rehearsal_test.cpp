// The rehearsal itself: what a careless use of a GPU does there. Each fault is planted, and must be found.
// And what only it can tell of a training: how often the host waits.
#include <cublas_v2.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <chrono>
#include <thread>
#include <vector>

#include "crema/parallel.hpp"
#include "data_fixtures.hpp"
#include "rehearsal/machine.hpp"
#include "solver_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

// What each test starts from.
struct Gpu {
  Gpu() : place(NewCudaDevice(0), NewSelfCommunicator()) {}
  Device& device() { return *place.context().device; }
  cudaStream_t stream() { return static_cast<cudaStream_t>(device().Stream()); }
  Workplace place;
};

class Rehearsal : public testing::Test {
 protected:
  Rehearsal() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

struct Twice {
  const float* x;
  float* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = 2 * x[i]; }
};

TEST_F(Rehearsal, AKernelSeesWhatTheHostCopied) {
  Gpu gpu;
  Tensor x(gpu.device(), DType::kF32, {1000}), y(gpu.device(), DType::kF32, {1000});
  x.FromHost(std::vector<float>(1000, 3));
  ForEach(gpu.place, 1000, Twice{x.data<float>(), y.data<float>()});
  EXPECT_EQ(y.ToHost<float>(), std::vector<float>(1000, 6));
}

// Of sizes that fill the pinned buffers over and over, and one that is larger than both.
TEST_F(Rehearsal, CopiesToAGpuKeepApart) {
  Gpu gpu;
  std::vector<Tensor> copies;
  const std::vector<int64_t> sizes = {1, 1'500'000, 3, 1'500'000, 1'500'000, 9'000'000, 70, 1'500'000, 5};
  for (size_t i = 0; i < sizes.size(); ++i) {
    copies.emplace_back(gpu.device(), DType::kF32, Shape{sizes[i]});
    copies.back().FromHost(std::vector<float>(static_cast<size_t>(sizes[i]), static_cast<float>(i)));
  }
  for (size_t i = 0; i < sizes.size(); ++i)
    EXPECT_EQ(copies[i].ToHost<float>(),
              std::vector<float>(static_cast<size_t>(sizes[i]), static_cast<float>(i)));
}

TEST_F(Rehearsal, TheHostDoesNotWaitForSmallCopies) {
  Gpu gpu;
  Tensor x(gpu.device(), DType::kF32, {1000});
  const int64_t before = rehearsal::WaitsOfThisThread();
  for (int i = 0; i < 50; ++i) x.FromHost(std::vector<float>(1000, static_cast<float>(i)));
  EXPECT_EQ(rehearsal::WaitsOfThisThread(), before);
  EXPECT_EQ(x.ToHost<float>(), std::vector<float>(1000, 49));
}

TEST_F(Rehearsal, FindsTheHostReadingAGpusMemory) {
  const auto read = [] {
    Gpu gpu;
    Tensor x(gpu.device(), DType::kF32, {10});
    x.Zero();
    gpu.device().Synchronize();
    volatile float value = x.data<float>()[3];
    (void)value;
  };
  EXPECT_DEATH(read(), "the host touched memory of GPU 0, at byte 12 of a piece of 40 bytes");
}

TEST_F(Rehearsal, FindsAKernelBehindTheEndOfItsMemory) {
  const auto run = [](int64_t count) {
    Gpu gpu;
    Tensor x(gpu.device(), DType::kF32, {2000}), y(gpu.device(), DType::kF32, {1000});
    x.Zero();
    ForEach(gpu.place, count, Twice{x.data<float>(), y.data<float>()});
    y = Tensor();
    gpu.device().Synchronize();
  };
  EXPECT_DEATH(run(1001), "something was written just behind a piece of memory of 4000 bytes");
  EXPECT_DEATH(run(2000), "a kernel or library call touched memory of GPU 0 that is not open");
}

TEST_F(Rehearsal, FindsTheUseOfFreedMemory) {
  const auto run = [] {
    Gpu gpu;
    Tensor y(gpu.device(), DType::kF32, {10});
    const float* freed = nullptr;
    {
      Tensor x(gpu.device(), DType::kF32, {10});
      freed = x.data<float>();
    }
    ForEach(gpu.place, 10, Twice{freed, y.data<float>()});
    gpu.device().Synchronize();
  };
  EXPECT_DEATH(run(), "touched memory of GPU 0 that is not open");
}

TEST_F(Rehearsal, FindsWhatWasNeverWritten) {
  Gpu gpu;
  const Tensor x(gpu.device(), DType::kF32, {10});
  for (float value : x.ToHost<float>()) EXPECT_TRUE(std::isnan(value));
}

// C = A B with the leading dimensions of A and C taken for each other.
TEST_F(Rehearsal, FindsASwappedLeadingDimension) {
  const auto run = [](int64_t lda, int64_t ldc) {
    Gpu gpu;
    Tensor a(gpu.device(), DType::kF32, {8, 3}), b(gpu.device(), DType::kF32, {3, 5}),
        c(gpu.device(), DType::kF32, {8, 5});
    GemmShape shape;
    shape.m = 8, shape.n = 5, shape.k = 3, shape.lda = lda, shape.ldc = ldc;
    gpu.device().Gemm(DType::kF32, shape, 1, a.raw(), b.raw(), 0, c.raw());
    gpu.device().Synchronize();
  };
  run(3, 5);
  EXPECT_DEATH(run(5, 5), "cublasSgemm: B wants bytes 0 to 152 of a piece of 96");
  EXPECT_THROW(run(3, 3), Error);  // cuBLAS itself refuses this one
}

// The second stream reads what the first one writes. Without the event it is early in most of the rounds.
TEST_F(Rehearsal, FindsAMissingEvent) {
  Gpu gpu;
  cudaStream_t other = nullptr;
  cudaEvent_t written = nullptr;
  gpu.stream();
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&written, cudaEventDisableTiming), cudaSuccess);
  const auto early_rounds = [&](bool with_event) {
    int early = 0;
    for (int round = 0; round < 50; ++round) {
      Tensor x(gpu.device(), DType::kF32, {1000}), y(gpu.device(), DType::kF32, {1000}),
          z(gpu.device(), DType::kF32, {1000});
      x.Zero(), y.Zero(), z.Zero();
      gpu.device().Synchronize();
      x.FromHost(std::vector<float>(1000, 1));
      ForEach(gpu.place, 1000, Twice{x.data<float>(), y.data<float>()});
      if (with_event) {
        EXPECT_EQ(cudaEventRecord(written, gpu.stream()), cudaSuccess);
        EXPECT_EQ(cudaStreamWaitEvent(other, written, 0), cudaSuccess);
      }
      EXPECT_EQ(cudaMemcpyAsync(z.raw(), y.raw(), 4000, cudaMemcpyDefault, other), cudaSuccess);
      EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
      early += z.ToHost<float>()[999] != 2;
    }
    return early;
  };
  EXPECT_EQ(early_rounds(true), 0);
  EXPECT_GT(early_rounds(false), 5);
  cudaEventDestroy(written);
  cudaStreamDestroy(other);
}

struct NeverTogether {  // a kernel whose odd threads miss a __syncthreads()
  static __global__ void Run(int) {
    if (threadIdx.x % 2 == 0) __syncthreads();
  }
};

TEST_F(Rehearsal, FindsThreadsThatMissABarrier) {
  const auto run = [] {
    Gpu gpu;
    gpu::Launch(NeverTogether::Run, 1, 32, gpu.stream(), 0);
    gpu.device().Synchronize();
  };
  EXPECT_DEATH(run(), "a thread of a block ended where thread 0 waits at __syncthreads");
}

TEST_F(Rehearsal, FindsAKernelThatIsGivenAnAddressOfTheHost) {
  const auto run = [](bool on_host) {
    Gpu gpu;
    Tensor x(gpu.device(), DType::kF32, {10}), y(gpu.device(), DType::kF32, {10});
    x.Zero();
    const std::vector<float> numbers(10, 3);
    ForEach(gpu.place, 10, Twice{on_host ? numbers.data() : x.data<float>(), y.data<float>()});
    EXPECT_EQ(y.ToHost<float>(), std::vector<float>(10, 0));
  };
  run(false);
  EXPECT_DEATH(run(true), "a kernel is given an address in the host's memory that is not pinned, at byte 0");
}

TEST_F(Rehearsal, FindsAnImpossibleLaunch) {
  const auto run = [](unsigned threads) {
    Gpu gpu;
    gpu::Launch(NeverTogether::Run, 1, threads, gpu.stream(), 0);
  };
  EXPECT_DEATH(run(2048), "a kernel launch of 2048 threads in a block");
}

// Two ranks as threads with a GPU each, of which rank 1 brings `count` numbers.
void SumOverTwoRanks(size_t count) {
  ncclUniqueId id{};
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  const auto rank = [&](int r) {
    const std::unique_ptr<Device> device = NewCudaDevice(r);
    Tensor x(*device, DType::kF32, {10});
    x.FromHost(std::vector<float>(10, static_cast<float>(r + 1)));
    ncclComm_t comm = nullptr;
    const auto stream = static_cast<cudaStream_t>(device->Stream());
    ASSERT_EQ(ncclCommInitRank(&comm, 2, id, r), ncclSuccess);
    ASSERT_EQ(ncclAllReduce(x.raw(), x.raw(), r == 1 ? count : 10, ncclFloat32, ncclSum, comm, stream),
              ncclSuccess);
    EXPECT_EQ(x.ToHost<float>(), std::vector<float>(10, 3));
    ncclCommDestroy(comm);
  };
  std::thread other([&] { rank(1); });
  rank(0);
  other.join();
}

TEST_F(Rehearsal, FindsAShortCountOnOneRank) {
  SumOverTwoRanks(10);
  EXPECT_DEATH(SumOverTwoRanks(9),
               "called ncclAllReduce of (10|9) elements .*, rank [01] ncclAllReduce of (10|9)");
}

TEST_F(Rehearsal, SaysHowMuchMemoryThereIsWhereThereIsNotEnough) {
  Gpu gpu;
  try {
    Tensor x(gpu.device(), DType::kF32, {int64_t{1} << 33});
    FAIL() << "32 GiB of 16 were given";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("out of memory on GPU 0"), std::string::npos) << error.what();
  }
}

// A net on faces whose embeddings, 'embedding', go to what is given.
std::string NetOnFaces(const std::string& faces, const std::string& head) {
  return "layer { name: 'data' type: 'Data' top: 'data' top: 'label' data_param { batch_size: 4 source: '" +
         faces +
         "' } } "
         "layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv' convolution_param { "
         "num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: 'xavier' } } } "
         "layer { name: 'norm' type: 'BatchNorm' bottom: 'conv' top: 'conv' } "
         "layer { name: 'prelu' type: 'PReLU' bottom: 'conv' top: 'conv' } "
         "layer { name: 'embedding' type: 'InnerProduct' bottom: 'conv' top: 'embedding' inner_product_param "
         "{ "
         "num_output: 6 weight_filler { type: 'xavier' } } } " +
         head;
}

// Trains it on two GPUs, whose hosts must not wait more than once in an iteration.
void CountWaits(const std::string& head, const std::string& solver_fields = "") {
  const TempFolder folder;
  WriteNumbered(folder / "faces", 20);
  RunRanks(2, [&](Communicator& host) {
    Workplace place(NewCudaDevice(host.rank()), host);
    SolverParameter spec;
    ParseText("base_lr: 0.01 lr_policy: 'fixed' momentum: 0.9 snapshot_after_train: false " + solver_fields,
              "test", &spec);
    ParseText(NetOnFaces(folder / "faces", head), "test", spec.mutable_net_param());
    Solver solver(place, spec);
    solver.Step(2);
    const int64_t before = rehearsal::WaitsOfThisThread();
    solver.Step(5);
    const int64_t waits = rehearsal::WaitsOfThisThread() - before;
    EXPECT_LE(waits, 5) << head << ", rank " << host.rank();
    EXPECT_GT(waits, 0) << "an imaginary GPU is hardly ever done before the host asks";
  });
}

// The labels that rows are drawn for come from the data layer, so that the host is ahead of the GPU until it
// asks for the loss.
TEST_F(Rehearsal, AnIterationWaitsForTheGpuOnce) {
  for (const std::string storage : {"MEMORY", "HOST"}) {
    for (const std::string fields : {"", "clip_gradients: 0.1"}) {
      CountWaits(
          "layer { name: 'classes' type: 'DistPartialFC' bottom: 'embedding' bottom: 'label' top: 'cosine' "
          "top: 'own' dist_partial_fc_param { num_output: 20 sample_rate: 0.5 storage: " +
              storage +
              " } } layer { name: 'loss' type: 'MarginSoftmax' bottom: 'cosine' bottom: 'own' top: 'loss' }",
          fields);
    }
  }
}

TEST_F(Rehearsal, AnIterationWithCaffesLossesWaitsForTheGpuOnce) {
  CountWaits(
      "layer { name: 'classes' type: 'InnerProduct' bottom: 'embedding' top: 'classes' inner_product_param { "
      "num_output: 20 weight_filler { type: 'xavier' } } } "
      "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'classes' bottom: 'label' top: 'loss' } "
      "layer { name: 'right' type: 'Accuracy' bottom: 'classes' bottom: 'label' top: 'right' top: 'of_class' "
      "} "
      "layer { name: 'hinge' type: 'HingeLoss' bottom: 'classes' bottom: 'label' top: 'hinge' } "
      "layer { name: 'center' type: 'CenterLoss' bottom: 'embedding' bottom: 'label' top: 'center' "
      "loss_weight: "
      "0.01 center_loss_param { num_output: 20 } }");
}

// What is fetched ahead for storage HOST follows the labels of the coming batch, which the data layer tells.
TEST_F(Rehearsal, ADataLayerTellsTheLabelsOfTheComingBatch) {
  const TempFolder folder;
  WriteNumbered(folder / "faces", 20);
  Gpu gpu;
  NetParameter spec;
  ParseText(NetOnFaces(folder / "faces", ""), "test", &spec);
  NetOptions options;
  options.phase = TRAIN;
  Net net(gpu.place, spec, options);
  Context& ctx = gpu.place;
  net.Forward(ctx);
  Blob::HostNumbers coming;
  for (int i = 0; coming == nullptr && i < 1000; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    coming = net.blob("label").coming_numbers();
  }
  ASSERT_NE(coming, nullptr);
  ++ctx.pass;
  net.Forward(ctx);
  EXPECT_EQ(*coming, *net.blob("label").host_numbers());
  EXPECT_EQ(*coming, (std::vector<int64_t>{4, 5, 6, 7}));
}

}  // namespace
}  // namespace crema
