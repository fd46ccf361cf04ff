# Sanitizers build only what does not need libtorch (its binaries are not instrumented).
if(ADZE_SANITIZE)
  add_compile_options(-fsanitize=${ADZE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
                      -Wno-maybe-uninitialized)  # GCC's guess is wrong in instrumented code
  add_link_options(-fsanitize=${ADZE_SANITIZE})
  # Kernels take minutes a file to compile with them: one instruction set beside the emulated one.
  add_compile_definitions("HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4|HWY_AVX3|HWY_AVX3_DL|HWY_AVX3_ZEN4)")
endif()
if(ADZE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "ADZE_FUZZ needs clang; use `cmake --preset fuzz`")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(ADZE_COVERAGE)
  add_compile_options(--coverage -fprofile-abs-path)
  add_link_options(--coverage)
endif()
