/^  carol:/,/^groups:/ s|^      - ssh: ssh-rsa .*|      - ssh: @carol-3@|
