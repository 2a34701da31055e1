// Floor 0. Files: whole reads, safe writes, protobuf messages as text and binary. Anyone may call it.
#pragma once

#include <functional>
#include <string>

#include <google/protobuf/message.h>

#include "crema/error.hpp"

namespace crema {

std::string ReadFile(const std::string& path);  // throws Error where it cannot
// Writes beside `path`, fsyncs and renames into place: the old file stays whole until the new one is. Throws
// Error (a full disk, say) and removes the partial file.
void WriteFile(const std::string& path, const std::string& bytes);
bool FileExists(const std::string& path);
void MakeDirectories(const std::string& path);

// A word of a text file for which a message has no place.
struct UnknownWord {
  std::string message, field;  // "PoolingParameter", "pad_l"; no message where `value` is what is unknown
  std::string value;           // of an enum
};
struct TextOptions {
  bool lenient = false;  // unknown fields and values of enums are skipped instead of being an Error
  // Told what was skipped: a sentence for each such word, with the place where it was first met. May be null.
  std::function<void(const std::string&)> warn = nullptr;
  // What to write instead, for the end of the error's or the warning's sentence; "": nothing. May be null.
  std::function<std::string(const UnknownWord&)> advice = nullptr;
};
// Text format. An unknown field, a wrong type or a missing brace is an Error that names file, line and
// column.
void ReadText(const std::string& path, google::protobuf::Message* message, const TextOptions& options = {});
void ParseText(const std::string& text, const std::string& name, google::protobuf::Message* message,
               const TextOptions& options = {});
std::string ToText(const google::protobuf::Message& message);
// Binary format, without protobuf's 64 MB limit.
void ReadBinary(const std::string& path, google::protobuf::Message* message);
void WriteBinary(const std::string& path, const google::protobuf::Message& message);

}  // namespace crema
