// Floor 3, the data wing. Records of images, the order in which they are visited, what is done to them on
// their way into a net, and threads that do it ahead. Called by the data layers, by tools and by embedders.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "crema.pb.h"
#include "crema/error.hpp"

namespace crema {

struct ImageSize {
  int64_t channels = 0, height = 0, width = 0;
  int64_t count() const { return channels * height * width; }
  bool operator==(const ImageSize&) const = default;
};
std::string ToString(const ImageSize& size);  // "3x112x112"

// A decoded record, channels last [H, W, C], colours in the order B, G, R: 8-bit pixels, or else numbers.
struct Image {
  ImageSize size;
  std::vector<uint8_t> pixels;
  std::vector<float> numbers;  // where there are no pixels
  int64_t label = 0;
};

// To how many channels encoded images are decoded; raw records are taken as they are.
enum class Color { kAsStored, kColor, kGray };

// A record that cannot be read or decoded.
class BadRecord : public Error {
 public:
  using Error::Error;
};

// Records by number. All functions may be called by several threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  // "record '00000012_a/b.jpg' of train_lmdb".
  virtual std::string Describe(int64_t index) const = 0;
  // 0 <= index < size(). Throws BadRecord, naming the record, what was found and what was expected.
  virtual void Read(int64_t index, Image* image) const = 0;
};

// An LMDB of Datum messages in the order of their keys: encoded images, raw bytes C, H, W, or float_data. It
// is opened without locks, so it may be open many times in one process and lie on a read-only disk, but must
// not be written meanwhile. Throws Error where `path` is missing, truncated, empty or no LMDB.
std::shared_ptr<const Dataset> OpenLmdb(const std::string& path, Color color);

struct ImageListOptions {
  std::string root;               // put before each path
  int64_t height = 0, width = 0;  // resize to these; 0 keeps the image's size
  Color color = Color::kColor;
};
// A text file with a path and a label on each line, the last space between them. Throws Error naming the
// line.
std::shared_ptr<const Dataset> OpenImageList(const std::string& list, const ImageListOptions& options);

// Which record is at a position of an endless walk over the records, as a pure function: position p belongs
// to epoch p / size, and each epoch visits every record once, in order or in a random order of its own.
struct Sampler {
  int64_t size = 1;  // records
  uint64_t seed = 0;
  bool shuffle = false;
  int64_t RecordAt(int64_t position) const;
};

// What is done to each image: out = (pixel - mean) * scale after crop, mirror and, in TRAIN, the random
// changes of TransformationParameter. Everything random is keyed by (seed, position).
class Augment {
 public:
  // For images of the given size; `planar`: the output is [C, H, W] instead of channels last. Throws Error
  // for values that are not possible.
  Augment(const TransformationParameter& spec, Phase phase, uint64_t seed, const ImageSize& size,
          bool planar = false);
  const ImageSize& out_size() const { return out_; }
  // Writes out_size() numbers. Changes `image`. May be called by several threads at once.
  void operator()(int64_t position, Image* image, float* out) const;

 private:
  void ChangePixels(int64_t position, Image* image) const;
  void Erase(int64_t position, float* out) const;
  double Uniform(int64_t position, int draw) const;
  int64_t Below(int64_t position, int draw, int64_t bound) const;  // a number in [0, bound)

  TransformationParameter spec_;
  Phase phase_;
  uint64_t seed_;
  ImageSize in_, out_;
  int64_t channel_step_, pixel_step_;  // from one channel or pixel of a row to the next, in the output
  std::vector<float> mean_;            // one per channel, or one per element [H, W, C]
};

struct SourceOptions {
  TransformationParameter transform;
  Phase phase = TRAIN;
  uint64_t seed = 0;
  bool shuffle = false;
  int64_t first_position = 0;  // where the walk begins
  int64_t batch = 1;           // samples per pass on this rank
  int64_t global_batch = 1;    // samples per pass on all ranks
  int64_t batch_offset = 0;    // samples per pass of the ranks before this one
  int64_t prefetch = 4;        // batches made ahead
  int threads = 1;
  bool skip_bad_records = false;  // else they are an Error
  // Whether images of so many channels are [C, H, W]; else, and where it is empty, [H, W, C].
  std::function<bool(int64_t)> planar = nullptr;
};

struct Batch {
  std::vector<float> images;  // [batch, H, W, C], or [batch, C, H, W] where planar
  std::vector<int64_t> labels;
};

// The batches of a data set, made ahead by threads. Element i of pass t is at position
// first_position + t * global_batch + batch_offset + i, so that R ranks with B samples read what one rank
// with R * B samples reads. With skip_bad_records a bad record is replaced by the next good one.
class Source {
 public:
  Source(std::shared_ptr<const Dataset> dataset, const SourceOptions& options);
  ~Source();
  const ImageSize& size() const;  // of an image of a batch
  bool planar() const;
  // The batch of a pass, valid until the next call. Fast where passes come in order; any order is possible.
  // Throws the Error that its making met: a bad record, or an image whose size is not that of the first
  // record.
  const Batch& Get(int64_t pass);
  int64_t skipped() const;  // bad records met so far

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace crema
