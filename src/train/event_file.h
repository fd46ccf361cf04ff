#pragma once
// TensorBoard's event files: framed records with checksums, each an Event of
// tensorflow/core/util/event.proto. Only what scalars need is written.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace adze::train {

struct Scalar {
  std::string tag;
  double value;  // stored as f32
};

// The bytes of one framed record: length, masked CRC-32C of the length, data, masked CRC-32C of the
// data (tensorflow/core/lib/io/record_writer.h).
std::string frame_record(std::string_view data);
// The record every file begins with.
std::string version_event(double wall_time);
// wall_time: seconds since 1970.
std::string scalars_event(double wall_time, int64_t step, std::span<const Scalar> scalars);

// CRC-32C (Castagnoli), reflected, as iSCSI has it (RFC 3720, appendix B.4).
uint32_t crc32c(std::string_view bytes);

}  // namespace adze::train
