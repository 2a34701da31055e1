// The mean image of a database, and its mean over each channel.
#include "crema/data.hpp"
#include "crema/io.hpp"
#include "tool.hpp"

DEFINE_string(backend, "lmdb", "Format of the database; lmdb is the only one.");

namespace {

using namespace crema;

// Sums over all images, C, H, W.
class Sum {
 public:
  explicit Sum(const ImageSize& size) : size_(size), sums_(static_cast<size_t>(size.count())) {}

  void Add(const Image& image) {
    for (int64_t c = 0; c < size_.channels; ++c)
      for (int64_t i = 0; i < area(); ++i) {
        const size_t from = static_cast<size_t>(i * size_.channels + c);
        sums_[static_cast<size_t>(c * area() + i)] +=
            image.pixels.empty() ? static_cast<double>(image.numbers[from]) : image.pixels[from];
      }
    ++images_;
  }

  // As Caffe writes a mean image: four axes of which the first is 1.
  BlobProto Mean() const {
    BlobProto mean;
    mean.set_num(1);
    mean.set_channels(static_cast<int>(size_.channels));
    mean.set_height(static_cast<int>(size_.height));
    mean.set_width(static_cast<int>(size_.width));
    for (double sum : sums_) mean.add_data(static_cast<float>(sum / static_cast<double>(images_)));
    return mean;
  }
  double ChannelMean(int64_t c) const {
    double sum = 0;
    for (int64_t i = 0; i < area(); ++i) sum += sums_[static_cast<size_t>(c * area() + i)];
    return sum / static_cast<double>(images_ * area());
  }

 private:
  int64_t area() const { return size_.height * size_.width; }

  ImageSize size_;
  std::vector<double> sums_;
  int64_t images_ = 0;
};

int Run(const std::string& database, const std::string& out) {
  Require(FLAGS_backend == "lmdb", "--backend is '", FLAGS_backend, "' where lmdb was expected");
  const std::shared_ptr<const Dataset> images = OpenLmdb(database, Color::kAsStored);
  Image image;
  images->Read(0, &image);
  const ImageSize size = image.size;
  Sum sum(size);
  LOG(INFO) << "Starting iteration";
  for (int64_t i = 0; i < images->size(); ++i) {
    images->Read(i, &image);
    Require(image.size == size, images->Describe(i), " is ", ToString(image.size), " where ", ToString(size),
            ", the size of the first image, was expected");
    sum.Add(image);
    if ((i + 1) % 10000 == 0) LOG(INFO) << "Processed " << i + 1 << " files.";
  }
  LOG(INFO) << "Processed " << images->size() << " files.";
  if (!out.empty()) {
    LOG(INFO) << "Write to " << out;
    WriteBinary(out, sum.Mean());
  }
  LOG(INFO) << "Number of channels: " << size.channels;
  for (int64_t c = 0; c < size.channels; ++c)
    LOG(INFO) << "mean_value channel [" << c << "]: " << static_cast<float>(sum.ChannelMean(c));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StartTool(&argc, &argv, "compute_image_mean [--backend=lmdb] DB [OUT.binaryproto]");
  if (argc != 2 && argc != 3)
    return UsageError(
        "compute_image_mean",
        Concat("found ", argc - 1, " arguments where a database and perhaps a file were expected"));
  return RunTool("compute_image_mean", nullptr, [&] { return Run(argv[1], argc > 2 ? argv[2] : ""); });
}
