# The processes of the site $app, whichever release they belong to. Another application's name may begin as this one's.
site_units() {
  for unit in $(systemctl list-units --plain --no-legend --state=active,activating,reloading "$app@*.service" "$app-*@*.service" "$app-job-*.service" "$app-job-*.timer" | cut -d' ' -f1); do
    case $(systemctl show -p WorkingDirectory --value "${unit%.timer}$(case $unit in *.timer) echo .service ;; esac)") in
      "/srv/$app" | "/srv/$app/"* | "!/srv/$app" | "!/srv/$app/"*) echo "$unit" ;;
    esac
  done
}

# Lets go of the database: what runs beside the site ends first, then the site itself, after the requests that it has. New
# ones wait at its socket.
hold_site() {
  held=$(site_units)
  beside=$(printf '%s\n' "$held" | grep -v "^$app@" || true)
  [ -z "$beside" ] || systemctl stop $beside
  web=$(printf '%s\n' "$held" | grep "^$app@" || true)
  [ -z "$web" ] || systemctl stop $web 2>/dev/null
}

# A job that was cut off is not begun anew: its timer is.
release_site() {
  [ -n "${held:-}" ] || return 0
  again=$(printf '%s\n' "$held" | grep -v "^$app-job-.*\.service$" || true)
  held=
  [ -z "$again" ] || systemctl start $again
}
