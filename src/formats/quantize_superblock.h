#pragma once
// Encoders of the types that store 256 values with scales of scales: q2_k to q6_k and iq4_xs.
// quantize.h has the contract.

#include <cstdint>

namespace adze::formats {

// values [256], within +-2^50; block: core::info(type).block_bytes. Throw core::Error where a
// scale does not fit half precision.
void encode_q2_k(const float* values, uint8_t* block);
void encode_q3_k(const float* values, uint8_t* block);
void encode_q4_k(const float* values, uint8_t* block);
void encode_q5_k(const float* values, uint8_t* block);
void encode_q6_k(const float* values, uint8_t* block);
void encode_iq4_xs(const float* values, uint8_t* block);

}  // namespace adze::formats
