/^groups:/ i\
machines:\
  ci:\
    credentials:\
      - ssh: @ci@
/^policies:/ a\
  nightly:\
    description: nightly builds, for testers\
    key: release\
    formats: [pe]\
    names: ["nightly-*"]\
    rule: {requesters: [ci], unattended: true}
/^  windows:/,/^commands:/ s|^        - release$|&\
        - ci|
