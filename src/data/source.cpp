#include <set>

#include <glog/logging.h>

#include "crema/data.hpp"
#include "crema/permutation.hpp"
#include "crema/philox.hpp"
#include "data/prefetch.hpp"

namespace crema {

std::string ToString(const ImageSize& size) {
  return Concat(size.channels, "x", size.height, "x", size.width);
}

int64_t Sampler::RecordAt(int64_t position) const {
  const int64_t epoch = position / size, place = position % size;
  return shuffle ? Permutation(MixBits(seed, static_cast<uint64_t>(epoch)), size)(place) : place;
}

struct Source::Impl {
  Impl(std::shared_ptr<const Dataset> from, const SourceOptions& wanted)
      : dataset(std::move(from)),
        options(wanted),
        sampler{dataset->size(), options.seed, options.shuffle},
        first_size(FirstSize()),
        planar(options.planar && options.planar(first_size.channels)),
        augment(options.transform, options.phase, options.seed, first_size, planar) {}

  ImageSize FirstSize() {
    Image image;
    ReadGood(0, &image);
    return image.size;
  }

  // Reads record `index` or, where bad ones are skipped, the first good one from there; returns its number.
  int64_t ReadGood(int64_t index, Image* image) {
    for (int64_t tried = 0; tried < dataset->size(); ++tried) {
      const int64_t record = (index + tried) % dataset->size();
      try {
        dataset->Read(record, image);
        return record;
      } catch (const BadRecord& error) {
        if (!options.skip_bad_records) throw;
        NoteSkipped(record, error.what());
      }
    }
    Fail("none of the ", dataset->size(), " records can be read; the first is ", dataset->Describe(0));
  }

  void NoteSkipped(int64_t record, const char* message) {
    std::lock_guard lock(skipped_mutex);
    if (!skipped.insert(record).second) return;
    LOG(WARNING) << "Skipped a bad record (" << skipped.size() << " so far): " << message;
  }

  void CheckSize(int64_t record, const ImageSize& found) const {
    if (found == first_size) return;
    const bool only_channels = found.height == first_size.height && found.width == first_size.width;
    Fail(dataset->Describe(record), " is ", ToString(found), " where ", ToString(first_size),
         ", the size of the first record, was expected",
         only_channels ? "; force_color or force_gray in transform_param makes encoded images alike" : "");
  }

  void Make(int64_t pass, Batch* batch) {
    const int64_t count = augment.out_size().count();
    batch->images.resize(static_cast<size_t>(options.batch * count));
    batch->labels.resize(static_cast<size_t>(options.batch));
    Image image;
    for (int64_t i = 0; i < options.batch; ++i) {
      const int64_t position =
          options.first_position + pass * options.global_batch + options.batch_offset + i;
      const int64_t record = ReadGood(sampler.RecordAt(position), &image);
      CheckSize(record, image.size);
      batch->labels[static_cast<size_t>(i)] = image.label;
      augment(position, &image, batch->images.data() + i * count);
    }
  }

  std::shared_ptr<const Dataset> dataset;
  SourceOptions options;
  Sampler sampler;
  std::mutex skipped_mutex;
  std::set<int64_t> skipped;
  ImageSize first_size;
  bool planar;
  Augment augment;
  std::unique_ptr<Prefetch<Batch>> queue;  // last: its threads use the others; from the first Get on
};

Source::Source(std::shared_ptr<const Dataset> dataset, const SourceOptions& options)
    : impl_(std::make_unique<Impl>(std::move(dataset), options)) {}
Source::~Source() = default;

const ImageSize& Source::size() const {
  return impl_->augment.out_size();
}

bool Source::planar() const {
  return impl_->planar;
}

const Batch& Source::Get(int64_t pass) {
  Impl& impl = *impl_;
  if (impl.queue == nullptr)
    impl.queue =
        std::make_unique<Prefetch<Batch>>([&impl](int64_t index, Batch* batch) { impl.Make(index, batch); },
                                          impl.options.threads, impl.options.prefetch);
  return impl.queue->Get(pass);
}

int64_t Source::skipped() const {
  std::lock_guard lock(impl_->skipped_mutex);
  return static_cast<int64_t>(impl_->skipped.size());
}

}  // namespace crema
