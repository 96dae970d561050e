# The Debian package, made by `./dev package` (cpack -G DEB): what is installed where, and what the maintainer scripts do.
# Its version can be given, to try an upgrade: cpack -D CPACK_PACKAGE_VERSION=…
install(FILES config/run-recorder.toml DESTINATION /etc/run-recorder COMPONENT package)
install(FILES systemd/run-recorder.service systemd/run-recorder.socket DESTINATION /lib/systemd/system COMPONENT package)
install(FILES systemd/run-recorder.sysusers DESTINATION lib/sysusers.d RENAME run-recorder.conf COMPONENT package)
install(FILES config/bash-completion/run-recorder DESTINATION share/bash-completion/completions COMPONENT package)
install(CODE "file(CREATE_LINK run-recorder
  \"\$ENV{DESTDIR}/usr/share/bash-completion/completions/run-recorderd\" SYMBOLIC)" COMPONENT package)

set(RR_DOC share/doc/run-recorder)
file(GLOB documents CONFIGURE_DEPENDS docs/*.md)
install(FILES README.md ${documents} DESTINATION ${RR_DOC} COMPONENT package)
install(FILES config/debian/copyright DESTINATION ${RR_DOC} COMPONENT package)
# The scripts among them can be run where they are.
install(DIRECTORY docs/examples/ DESTINATION ${RR_DOC}/examples USE_SOURCE_PERMISSIONS COMPONENT package)
install(DIRECTORY systemd/examples/ DESTINATION ${RR_DOC}/examples/systemd COMPONENT package)
install(FILES config/prometheus-alerts.yml config/grafana-dashboard.json DESTINATION ${RR_DOC}/examples COMPONENT package)
install(FILES config/debian/lintian-overrides DESTINATION share/lintian/overrides RENAME run-recorder COMPONENT package)
# gzip without a time, so that the same sources make the same package.
install(CODE "
  set(root \"\$ENV{DESTDIR}/usr\")
  file(GLOB pages RELATIVE \"${CMAKE_SOURCE_DIR}/docs/man\" \"${CMAKE_SOURCE_DIR}/docs/man/*.[1578]\")
  foreach(page \${pages})
    string(REGEX REPLACE \".*[.]\" \"\" section \${page})
    file(MAKE_DIRECTORY \"\${root}/share/man/man\${section}\")
    execute_process(COMMAND gzip -9n INPUT_FILE \"${CMAKE_SOURCE_DIR}/docs/man/\${page}\"
      OUTPUT_FILE \"\${root}/share/man/man\${section}/\${page}.gz\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
  execute_process(COMMAND gzip -9n INPUT_FILE \"${CMAKE_SOURCE_DIR}/config/debian/changelog\"
    OUTPUT_FILE \"\${root}/${RR_DOC}/changelog.gz\" COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND gzip -9n INPUT_FILE \"${CMAKE_SOURCE_DIR}/CHANGELOG.md\"
    OUTPUT_FILE \"\${root}/${RR_DOC}/CHANGELOG.md.gz\" COMMAND_ERROR_IS_FATAL ANY)
  # The notices of the libraries that are compiled in, as their packages have them.
  file(MAKE_DIRECTORY \"\${root}/${RR_DOC}/compiled-in\")
  foreach(library libboost1.81-dev nlohmann-json3-dev libcli11-dev)
    execute_process(COMMAND gzip -9n INPUT_FILE \"/usr/share/doc/\${library}/copyright\"
      OUTPUT_FILE \"\${root}/${RR_DOC}/compiled-in/\${library}.gz\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
" COMPONENT package)

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PACKAGE_NAME run-recorder)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "Seed 554f6e36 maintainers <maintainers@users.noreply.r-seed-554f6e36.example>")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "records what background jobs did, and finds those that silently died")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "run-recorderd takes lifecycle events of background jobs over a local socket,
makes them durable, acknowledges them, and writes one row per attempt of a
run, with its history, to PostgreSQL or to an embedded SQLite.

It compares the rows that say running with what is really alive (processes,
connections, Oban's table of jobs), marks the orphaned ones stuck, and reports
why. run-recorder wraps cron jobs and timers, and shows what became of them.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "postgresql, prometheus")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  "${CMAKE_SOURCE_DIR}/config/debian/postinst;${CMAKE_SOURCE_DIR}/config/debian/prerm"
  "${CMAKE_SOURCE_DIR}/config/debian/postrm;${CMAKE_SOURCE_DIR}/config/debian/conffiles")
# The programs and the package's own files, nothing that other components may bring.
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};${PROJECT_NAME};ALL;/")
include(CPack)
