# Sanitizers build only what does not need libtorch (its binaries are not instrumented).
if(ADZE_SANITIZE)
  add_compile_options(-fsanitize=${ADZE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${ADZE_SANITIZE})
endif()
if(ADZE_COVERAGE)
  add_compile_options(--coverage -fprofile-abs-path)
  add_link_options(--coverage)
endif()
