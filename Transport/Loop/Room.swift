// room Loop
