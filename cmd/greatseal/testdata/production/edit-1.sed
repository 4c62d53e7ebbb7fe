/^  bob:/,/^  carol:/ s|^    credentials:|&\
      - ssh: @bob-2@|
/^  carol:/,/^groups:/ s|^    credentials:|&\
      - ssh: @carol-2@|
