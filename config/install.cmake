# What is installed where, besides the two programs: by `cmake --install build --prefix P`, and by `./dev package`, whose
# prefix is /usr. All of it lies under the prefix, where GNUInstallDirs says; only with /usr the configuration is in /etc.
# The prefix counts that is given when it is installed, and the unit names the programs there.
set(RR_UNIT_DIR lib/systemd/system CACHE STRING "Where systemd's units are installed, under the prefix unless absolute")
set(RR_DOC ${CMAKE_INSTALL_DATAROOTDIR}/doc/run-recorder)

# Every path is made when it is installed: DESTDIR goes in front, as file(INSTALL) does it by itself.
install(CODE "
  set(rr_source \"${CMAKE_SOURCE_DIR}\")
  set(rr_etc \"${CMAKE_INSTALL_SYSCONFDIR}\")
  if(NOT IS_ABSOLUTE \"\${rr_etc}\")
    if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\" OR CMAKE_INSTALL_PREFIX STREQUAL \"/\")
      set(rr_etc \"/\${rr_etc}\")
    else()
      set(rr_etc \"\${CMAKE_INSTALL_PREFIX}/\${rr_etc}\")
    endif()
  endif()
  set(rr_units \"${RR_UNIT_DIR}\")
  if(NOT IS_ABSOLUTE \"\${rr_units}\")
    set(rr_units \"\${CMAKE_INSTALL_PREFIX}/\${rr_units}\")
  endif()
  file(INSTALL DESTINATION \"\${rr_etc}/run-recorder\" TYPE FILE FILES \"\${rr_source}/config/run-recorder.toml\")
  file(INSTALL DESTINATION \"\${rr_units}\" TYPE FILE
    FILES \"\${rr_source}/systemd/run-recorder.service\" \"\${rr_source}/systemd/run-recorder.socket\")
  if(NOT CMAKE_INSTALL_PREFIX STREQUAL \"/usr\")
    set(rr_unit \"\$ENV{DESTDIR}\${rr_units}/run-recorder.service\")
    file(READ \"\${rr_unit}\" rr_text)
    string(REPLACE \"=/usr/bin/\" \"=\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/\" rr_text \"\${rr_text}\")
    string(REPLACE \"[Service]\\n\" \"[Service]\\nEnvironment=RUN_RECORDER_CONFIG=\${rr_etc}/run-recorder/run-recorder.toml\\n\"
      rr_text \"\${rr_text}\")
    file(WRITE \"\${rr_unit}\" \"\${rr_text}\")
  endif()
" COMPONENT package)
install(FILES systemd/run-recorder.sysusers DESTINATION lib/sysusers.d RENAME run-recorder.conf COMPONENT package)
install(FILES config/bash-completion/run-recorder DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
  COMPONENT package)
install(CODE "file(CREATE_LINK run-recorder
  \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}/bash-completion/completions/run-recorderd\" SYMBOLIC)"
  COMPONENT package)
install(FILES config/zsh-completion/_run-recorder DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions COMPONENT package)
install(FILES config/fish-completion/run-recorder.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d
  COMPONENT package)
install(CODE "file(CREATE_LINK run-recorder.fish
  \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/run-recorderd.fish\" SYMBOLIC)"
  COMPONENT package)
# They are compiled into the daemon; here they are to be read, and to be run by hand.
install(DIRECTORY migrations DESTINATION ${CMAKE_INSTALL_DATADIR}/run-recorder COMPONENT package)

# To be copied, or installed from there with the language's own tool; tests stay with the sources.
install(DIRECTORY clients DESTINATION ${CMAKE_INSTALL_DATADIR}/run-recorder COMPONENT package
  PATTERN test EXCLUDE PATTERN tests EXCLUDE PATTERN cases EXCLUDE PATTERN internal EXCLUDE PATTERN "*_test.go" EXCLUDE
  PATTERN __pycache__ EXCLUDE PATTERN ".*" EXCLUDE)

file(GLOB documents CONFIGURE_DEPENDS docs/*.md)
install(FILES README.md ${documents} DESTINATION ${RR_DOC} COMPONENT package)
# The scripts among them can be run where they are.
install(DIRECTORY docs/examples/ DESTINATION ${RR_DOC}/examples USE_SOURCE_PERMISSIONS COMPONENT package)
install(DIRECTORY systemd/examples/ DESTINATION ${RR_DOC}/examples/systemd COMPONENT package)
install(FILES config/prometheus-alerts.yml config/grafana-dashboard.json config/grafana-dashboard-jobs.json
  DESTINATION ${RR_DOC}/examples COMPONENT package)
# gzip without a time, so that the same sources make the same package.
install(CODE "
  set(root \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}\")
  file(GLOB pages RELATIVE \"${CMAKE_SOURCE_DIR}/docs/man\" \"${CMAKE_SOURCE_DIR}/docs/man/*.[1578]\")
  foreach(page \${pages})
    string(REGEX REPLACE \".*[.]\" \"\" section \${page})
    set(folder \"\${root}/${CMAKE_INSTALL_MANDIR}/man\${section}\")
    file(MAKE_DIRECTORY \"\${folder}\")
    execute_process(COMMAND gzip -9n INPUT_FILE \"${CMAKE_SOURCE_DIR}/docs/man/\${page}\"
      OUTPUT_FILE \"\${folder}/\${page}.gz\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
" COMPONENT package)
